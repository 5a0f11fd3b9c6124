"""The roofline: bounds on the time of a step, from measured peak rates.

All activations are in bfloat16. A pass is one read or one write of an
activation `[B, H, W, width]`.

A training step needs at least 24 passes per block. Six of them are the operands
and results of the three pointwise products, and overlap with the products if
those take longer. Inference needs four passes per block: a product reads and
writes once, and so do the operations between two products. The patch embedding,
the head and the optimizer are ignored.
"""

from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase

_BYTES = 2  # of a bfloat16
_PASSES = {'train': 24, 'forward': 4}
_PASSES_PER_PRODUCT = 2
_PRODUCTS = {'train': 3, 'forward': 1}


def step_seconds(
  case: BenchmarkCase,
  kind: str,
  bytes_per_second: float,
  flops_per_second: float,
) -> float:
  """Returns the minimum time of a step in seconds.

  Args:
    case: a ConvMixer and its batch.
    kind: 'train' or 'forward'.
    bytes_per_second: rate of a copy, counting bytes read and written.
    flops_per_second: rate of a matrix product in bfloat16.
  """
  width, depth = case.fields['width'], case.fields['depth']
  side = case.image_size // case.fields['patch_size']
  positions = case.batch_size * side**2
  one_pass = positions * width * _BYTES / bytes_per_second
  products = _PRODUCTS[kind]
  flops = products * 2 * positions * width**2
  hidden = products * _PASSES_PER_PRODUCT
  block = max(flops / flops_per_second, hidden * one_pass)
  return depth * (block + (_PASSES[kind] - hidden) * one_pass)
