"""The networks and batches to measure, and their FLOPs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class BenchmarkCase:
  """A ConvMixer and its batch.

  Attributes:
    width: channels of every layer.
    depth: number of mixer blocks.
    patch_size: side of a patch, in pixels.
    kernel_size: side of the depthwise kernels.
    activation: 'gelu' or 'relu'.
    num_classes: outputs of the head.
    image_size: side of an image, in pixels.
    batch_size: number of images of a step.
    dtype: compute dtype, 'float32' or 'bfloat16'.
  """

  width: int
  depth: int
  patch_size: int
  kernel_size: int
  activation: str = 'gelu'
  num_classes: int = 1000
  image_size: int = 224
  batch_size: int = 4
  dtype: str = 'float32'


CASES = {
  '256/8': BenchmarkCase(
    256, 8, 2, 5, num_classes=10, image_size=32, batch_size=64
  ),
  '768/32': BenchmarkCase(768, 32, 7, 7, activation='relu'),
  '1536/20': BenchmarkCase(1536, 20, 7, 9),
  '1024/20': BenchmarkCase(1024, 20, 14, 9),
}


def count_flops(case: BenchmarkCase) -> dict[str, float]:
  """Counts the floating point operations (FLOPs) of a step.

  A multiplication with its addition counts as two. Only convolutions and matrix
  products count, including the padding of the image; activations, BatchNorm and
  AdamW do not. The backward pass has two products for each of the forward pass,
  but one for the patch embedding: the gradient of the image is not needed.

  Returns:
    The FLOPs of `forward` and `train`, for a batch.
  """
  from convmixer_jax.analysis import (
    flops,  # imports JAX, which --help can spare
  )
  from convmixer_jax.models import ConvMixer

  model = ConvMixer(
    width=case.width,
    depth=case.depth,
    patch_size=case.patch_size,
    kernel_size=case.kernel_size,
    activation=case.activation,
    num_classes=case.num_classes,
  )
  counted = {
    'forward': flops.count_forward(model, case.image_size, case.batch_size),
    'train': flops.count_training(model, case.image_size, case.batch_size),
  }
  return {
    kind: 2.0 * (macs.matrix + macs.depthwise) for kind, macs in counted.items()
  }
