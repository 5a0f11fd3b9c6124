"""Puts the images of both splits on the devices, if they fit there."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from convmixer_jax import limits
from convmixer_jax.config import eval_image_size, height_width
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.augment.resize import resize
from convmixer_jax.data.sources import Source
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.training.on_device import crop

_OFF = 'give --config.input.on_device=False'


class Images(NamedTuple):
  """The images of a split, each device having all of them.

  Attributes:
    image: uint8 `[N, H, W, C]`.
    label: int32, `[N]` or `[N, K]`.
  """

  image: Any
  label: Any


def load(
  train: Source,
  evaluated: Source,
  config: ml_collections.ConfigDict,
  mesh: Mesh,
) -> tuple[Images, Images]:
  """Returns the images to train and to evaluate on, as far as all runs agree.

  Those to evaluate on are resized and cropped; so are those to train on, where
  `config.augment` resizes all of them in the same way.

  Args:
    train: the training split.
    evaluated: the held-out split.
    config: the whole config.
    mesh: the devices.

  Raises:
    UserError: they do not fit, are not uint8, or differ in size.
  """
  for source in (train, evaluated):
    image = source[0]['image']
    if image.dtype != np.uint8:
      raise UserError(
        'config.input.on_device = True is for uint8 images, and those of '
        f'{_name(source)} are {image.dtype}; {_OFF}'
      )
  size = height_width(config.dataset.image_size)
  prepare: Callable[[np.ndarray], np.ndarray] = partial(
    _resized, size=size, resample=config.augment.interpolation
  )
  shape = (*size, train[0]['image'].shape[-1])
  if keeps_whole(config):
    prepare, shape = _unchanged, train[0]['image'].shape
  eval_size = eval_image_size(config)
  eval_shape = (*height_width(eval_size), shape[-1])
  _require_room(
    {
      'training': (len(train), *shape),
      'held-out': (len(evaluated), *eval_shape),
    },
    crop.matrix_bytes(*lengths_and_sizes(config, shape)),
    mesh,
  )
  prepare_eval = partial(
    transforms.eval_transform, config=config.augment, size=eval_size
  )
  return (
    _load(train, prepare, shape, mesh),
    _load(evaluated, prepare_eval, eval_shape, mesh),
  )


def keeps_whole(config: ml_collections.ConfigDict) -> bool:
  """Returns whether training images are kept as they are, to be resized."""
  augment = config.augment
  return augment.crop != 'none' or augment.interpolation == 'random'


def lengths_and_sizes(
  config: ml_collections.ConfigDict, stored: Sequence[int]
) -> tuple[list[Sequence[int]], Sequence[int], Sequence[int]]:
  """Returns what training images are cropped to, are stored as, and become.

  Args:
    config: the whole config.
    stored: height and width of the stored images, and anything after these.

  Returns:
    For each axis the lengths in pixels that a crop may have, none if it is not
    resized; the stored lengths; the lengths that the network sees.
  """
  stored, size = stored[:2], height_width(config.dataset.image_size)
  if config.augment.crop != 'none':
    lengths: list[Sequence[int]] = [range(1, side + 1) for side in stored]
  elif tuple(stored) != tuple(size):
    lengths = [[side] for side in stored]
  else:
    lengths = [[], []]
  return lengths, stored, size


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Puts arrays, which all processes have, on each device."""
  at = sharding.replicated(mesh)
  return jax.tree.map(
    lambda array: jax.make_array_from_process_local_data(
      at, np.asarray(array), np.shape(array)
    ),
    tree,
  )


def memory_limit(mesh: Mesh) -> float:
  """Returns how many bytes of images a device may have.

  That is half of a device's own memory; CPU devices share a quarter of what
  this process may use.
  """
  device = mesh.local_devices[0]
  found = (device.memory_stats() or {}).get('bytes_limit')
  if found and device.platform != 'cpu':
    return found / 2
  return limits.memory_bytes() / 4 / len(mesh.local_devices)


def _require_room(shapes, other_bytes, mesh):
  needed = sum(math.prod(shape) for shape in shapes.values()) + other_bytes
  allowed = memory_limit(mesh)
  if needed <= allowed:
    return
  parts = ' and '.join(
    f'{number:,} {name} images of {height} x {width} x {channels}'
    for name, (number, height, width, channels) in shapes.items()
  )
  share = 'half of its memory'
  if mesh.local_devices[0].platform == 'cpu':
    share = "its part of a quarter of this machine's memory"
  raise UserError(
    f'config.input.on_device = True takes {_mib(needed)} MiB on each device, '
    f'for {parts}, and at most {_mib(allowed)} MiB are used, {share}; {_OFF}'
  )


def _load(
  source: Source,
  prepare: Callable[[np.ndarray], np.ndarray],
  shape: tuple[int, ...],
  mesh: Mesh,
) -> Images:
  images = np.empty((len(source), *shape), np.uint8)
  labels: list[Any] = [None] * len(source)

  def read(index):
    example = source[index]
    image = prepare(example['image'])
    if image.shape != shape:
      sizes = [' x '.join(map(str, s[:2])) for s in (shape, image.shape)]
      raise UserError(
        'config.input.on_device = True crops and resizes at random only images '
        f'of one size, and images 0 and {index} of {_name(source)} are '
        f'{sizes[0]} and {sizes[1]} pixels; {_OFF}'
      )
    images[index] = image
    labels[index] = np.int32(example['label'])

  with ThreadPoolExecutor(limits.num_cores()) as pool:
    for _ in pool.map(read, range(len(source))):
      pass
  return replicate(Images(images, np.stack(labels)), mesh)


def _resized(image, size, resample):
  return resize(image, *size, resample)


def _unchanged(image):
  return image


def _name(source):
  return f'{source.origin.name} {source.origin.split}'.strip() or 'the source'


def _mib(num_bytes):
  return f'{num_bytes / 2**20:,.0f}'
