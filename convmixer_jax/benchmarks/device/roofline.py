"""The bounds that rows are compared with, from measured ceilings.

All activations are in bfloat16. A pass is one read or one write of an
activation `[B, H, W, width]`.

A training step at best makes 24 passes a block. Six of them are the operands
and results of the three pointwise products, and take no time of their own where
the products take longer. At inference there are four passes a block: a product
reads and writes, and so does all that lies between two products. The patch
embedding, the head and the optimizer are left out.
"""

from convmixer_jax.benchmarks.model_shapes import Shape

_BYTES = 2  # of a bfloat16
_PASSES = {'train': 24, 'forward': 4}
_PASSES_OF_A_PRODUCT = 2
_PRODUCTS = {'train': 3, 'forward': 1}


def step_seconds(
  shape: Shape, kind: str, bytes_per_second: float, flops_per_second: float
) -> float:
  """Returns the least time of a step.

  Args:
    shape: the network and its batch.
    kind: 'train' or 'forward'.
    bytes_per_second: of a copy, bytes read and written.
    flops_per_second: of a matrix product in bfloat16.
  """
  side = shape.image_size // shape.patch_size
  positions = shape.batch_size * side**2
  one_pass = positions * shape.width * _BYTES / bytes_per_second
  products = _PRODUCTS[kind]
  flops = products * 2 * positions * shape.width**2
  hidden = products * _PASSES_OF_A_PRODUCT
  block = max(flops / flops_per_second, hidden * one_pass)
  return shape.depth * (block + (_PASSES[kind] - hidden) * one_pass)
