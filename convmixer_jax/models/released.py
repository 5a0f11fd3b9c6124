"""Released weights: where they are, their images and published accuracies."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from convmixer_jax.config import ImageSize

# The input of networks trained on ImageNet, if nothing else is known.
IMAGENET_INPUT: dict[str, Any] = {
  'image_size': 224,
  'eval_crop_fraction': 0.875,
  'eval_interpolation': 'bicubic',
  'mean': (0.485, 0.456, 0.406),
  'std': (0.229, 0.224, 0.225),
}
HALF = (0.5, 0.5, 0.5)  # mean and std of pixels in [-1, 1]


class Test(NamedTuple):
  """Another size of images at which an accuracy was published.

  Attributes:
    image_size: see `Released`.
    eval_crop_fraction: see `Released`.
    top1: see `Released`.
    top5: see `Released`.
  """

  image_size: ImageSize
  eval_crop_fraction: float
  top1: float
  top5: float | None = None


class Released(NamedTuple):
  """Weights on the Hugging Face Hub, at `timm/TAG`, or in a file of others.

  The input is that of timm's configuration of the tag; the accuracies are those
  of its table of results, measured by timm.

  Attributes:
    tag: name of the repository, without `timm/`; or of the file, without its
      ending.
    variant: the network, a key of `Architecture.variants`.
    top1: published accuracy on the validation split of ImageNet, in percent, at
      `image_size`; None if there is none at that size.
    top5: the same for the five most likely classes.
    image_size: side of the images, in pixels, that evaluation uses.
    eval_crop_fraction: side of the central crop, as a fraction of the resized
      image's.
    eval_interpolation: of the resize, 'bicubic' or 'bilinear'.
    mean: per channel, of pixels in [0, 1].
    std: per channel.
    test: a larger size at which they are more accurate, if timm names one.
    files: names of the authors' own files with these weights.
    on_hub: whether they are at `timm/TAG`.
    license_id: as the hub names it.
  """

  tag: str
  variant: str
  top1: float | None = None
  top5: float | None = None
  image_size: ImageSize = IMAGENET_INPUT['image_size']
  eval_crop_fraction: float = IMAGENET_INPUT['eval_crop_fraction']
  eval_interpolation: str = IMAGENET_INPUT['eval_interpolation']
  mean: tuple[float, ...] = IMAGENET_INPUT['mean']
  std: tuple[float, ...] = IMAGENET_INPUT['std']
  test: Test | None = None
  files: tuple[str, ...] = ()
  license_id: str = 'apache-2.0'
  on_hub: bool = True

  @property
  def source(self) -> str:
    """Where they are, as commands take it; '' if not on the hub."""
    return f'hf://timm/{self.tag}' if self.on_hub else ''

  @property
  def input(self) -> dict[str, Any]:
    """How images come to the network; see `IMAGENET_INPUT`."""
    return {name: getattr(self, name) for name in IMAGENET_INPUT}

  @property
  def best(self) -> Test | None:
    """The published accuracy, at the size where it is highest."""
    if self.test is not None or self.top1 is None:
      return self.test
    return Test(self.image_size, self.eval_crop_fraction, self.top1, self.top5)


def by_tag(released: Iterable[Released]) -> dict[str, Released]:
  """Returns `Architecture.released`, in the order that was given."""
  return {weights.tag: weights for weights in released}
