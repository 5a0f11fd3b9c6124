"""The networks that are measured, and their operations."""

import dataclasses

from convmixer_jax.models.convmixer.macs import count_layers


@dataclasses.dataclass(frozen=True)
class Shape:
  """A ConvMixer and the batch it is given.

  Attributes:
    width: channels of every layer.
    depth: number of mixer blocks.
    patch_size: side of a patch, in pixels.
    kernel_size: side of the depthwise kernels.
    activation: 'gelu' or 'relu'.
    num_classes: outputs of the head.
    image_size: side of an image, in pixels.
    batch_size: images of a step.
    dtype: of computation, 'float32' or 'bfloat16'.
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


SHAPES = {
  '256/8': Shape(256, 8, 2, 5, num_classes=10, image_size=32, batch_size=64),
  '768/32': Shape(768, 32, 7, 7, activation='relu'),
  '1536/20': Shape(1536, 20, 7, 9),
  '1024/20': Shape(1024, 20, 14, 9),
}


def count_operations(shape: Shape) -> dict[str, float]:
  """Counts the floating point operations of a step.

  A multiplication with its addition is two. Only convolutions and products
  count, with the zeros around the image; activations, BatchNorm and AdamW do
  not. A backward pass has two products for each of the forward pass, but one
  for the patches: nobody asks for the gradient of the image.

  Returns:
    Those of `forward` and `train`, a whole batch.
  """
  layers = count_layers(shape, shape.image_size)
  operations = [2 * shape.batch_size * layer.multiply_adds for layer in layers]
  forward = sum(operations)
  return {'forward': forward, 'train': 3 * forward - operations[0]}
