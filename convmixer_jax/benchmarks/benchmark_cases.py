"""The networks and batches to measure, and their FLOPs.

`--help` lists them, so JAX, whose import takes seconds, is imported in the
functions that need it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class BenchmarkCase:
  """A network and its batch.

  Attributes:
    network: name of the network, as in `config.model.name`.
    fields: of the network, as in `config.model`; others have their default.
    num_classes: outputs of the head.
    image_size: side of an image, in pixels.
    batch_size: number of images of a step.
    dtype: compute dtype, 'float32' or 'bfloat16'.
  """

  network: str
  fields: Mapping[str, Any]
  num_classes: int = 1000
  image_size: int = 224
  batch_size: int = 4
  dtype: str = 'float32'


def create_convmixer_case(
  width: int,
  depth: int,
  patch_size: int,
  kernel_size: int,
  activation: str = 'gelu',
  **batch: Any,
) -> BenchmarkCase:
  """Returns the case of a ConvMixer.

  Args:
    width: see `ConvMixer`.
    depth: see `ConvMixer`.
    patch_size: see `ConvMixer`.
    kernel_size: see `ConvMixer`.
    activation: see `ConvMixer`.
    **batch: the attributes of `BenchmarkCase` that follow `fields`.
  """
  fields = {
    'width': width,
    'depth': depth,
    'patch_size': patch_size,
    'kernel_size': kernel_size,
    'activation': activation,
  }
  return BenchmarkCase('convmixer', fields, **batch)


CASES = {
  '256/8': create_convmixer_case(
    256, 8, 2, 5, num_classes=10, image_size=32, batch_size=64
  ),
  '768/32': create_convmixer_case(768, 32, 7, 7, 'relu'),
  '1536/20': create_convmixer_case(1536, 20, 7, 9),
  '1024/20': create_convmixer_case(1024, 20, 14, 9),
}


def all_cases() -> dict[str, BenchmarkCase]:
  """Returns `CASES`, and the published networks that timm has, by variant."""
  from convmixer_jax.benchmarks.timm_network import find_in_timm
  from convmixer_jax.models import MODELS

  cases = dict(CASES)
  for name, architecture in MODELS.items():
    for variant, fields in architecture.variants.items():
      size = architecture.published_input(variant)['image_size']
      case = BenchmarkCase(name, fields, image_size=size)
      if find_in_timm(case):
        cases[variant] = case
  return cases


def is_convmixer(case: BenchmarkCase) -> bool:
  """Whether the network is a ConvMixer, of which there are more forms."""
  from convmixer_jax.models import ConvMixer, find_architecture

  return find_architecture(case.network).module is ConvMixer


def count_flops(case: BenchmarkCase) -> dict[str, float]:
  """Counts the floating point operations (FLOPs) of a step.

  A multiplication with its addition counts as two. Only convolutions and matrix
  products count, including the padding of the image; activations, norms and
  AdamW do not. The backward pass has two products for each of the forward pass,
  but one for the patch embedding: the gradient of the image is not needed.

  Returns:
    The FLOPs of `forward` and `train`, for a batch.
  """
  return {kind: 2.0 * macs.total for kind, macs in _count_macs(case).items()}


def count_flops_by_category(case: BenchmarkCase) -> dict[str, dict[str, float]]:
  """Counts as `count_flops`: those of `products`, and of `depthwise`."""
  return {
    kind: {'products': 2.0 * macs.matrix, 'depthwise': 2.0 * macs.depthwise}
    for kind, macs in _count_macs(case).items()
  }


def _count_macs(case):
  from convmixer_jax.analysis import flops
  from convmixer_jax.models import create_model, model_config

  model = create_model(
    model_config(case.network, **case.fields),
    case.num_classes,
    image_size=case.image_size,
  )
  return {
    'forward': flops.count_forward(model, case.image_size, case.batch_size),
    'train': flops.count_training(model, case.image_size, case.batch_size),
  }
