"""Images of any kind, prepared for a trained network as in its evaluation.

Files, folders, Pillow's images and arrays: `to_list` finds them,
`prepare_images` resizes and crops them. The network normalises the pixels.
"""

import collections
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import grain
import ml_collections
import numpy as np
from PIL import Image

from convmixer_jax import limits
from convmixer_jax.config import image_shape, num_channels
from convmixer_jax.data import image_files
from convmixer_jax.data.augment.transforms import eval_transform
from convmixer_jax.data.decode import (
  count_pixels,
  decode_image,
  from_pillow,
)
from convmixer_jax.data.pixels import convert
from convmixer_jax.errors import UserError
from convmixer_jax.files import require_local

# An image: the path of a file, one of Pillow's, or an array `[H, W, C]`.
ImageLike = str | os.PathLike | Image.Image | np.ndarray
# Images: one of them, the path of a folder, `[N, H, W, C]`, or a sequence.
Images = ImageLike | Sequence[ImageLike]

# Longer files are not read, and images of more pixels one at a time: each may
# take 2 GB while it is decoded and resized.
_MAX_BYTES = 2**30
_MANY_PIXELS = 2**25
_many_pixels = threading.Lock()
# Dtypes of arrays that a network of another dtype takes, too.
_WIDER = {
  'uint16': ('uint8', 'uint16'),
  'float32': ('uint8', 'uint16', 'float32'),
}
_pillow = threading.Lock()  # the same image may be given twice


def find_images(paths: Sequence[str]) -> image_files.Found:
  """Returns the files that are named, and the images in the folders, sorted.

  Args:
    paths: of files, and of folders to look through at any depth; see
      `image_files` for what counts as an image there.

  Raises:
    UserError: there is no such path, or no image in a folder.
  """
  found: list[str] = []
  passed_over: collections.Counter[str] = collections.Counter()
  for path in paths:
    if '://' in path:  # others are opened by Python, whatever their name
      require_local(path, 'the path')
    if os.path.isdir(path):
      inside = image_files.find_in_folder(path)
      if not inside.paths:
        others = image_files.describe(inside.passed_over) or 'it is empty'
        raise UserError(
          f'{path} has no images that Pillow reads, such as .jpg, .png or '
          f'.webp ({others}); name a folder that has'
        )
      found += inside.paths
      passed_over.update(inside.passed_over)
    elif os.path.exists(path):
      found.append(path)
    else:
      raise UserError(f'{path} does not exist; name image files or folders')
  return image_files.Found(found, passed_over)


def to_list(
  images: Images, channels: int, dtype: str = 'uint8'
) -> list[ImageLike]:
  """Returns images one by one: paths of files, and arrays.

  Args:
    images: an image (a path, one of Pillow's, or an array `[H, W, C]`), the
      path of a folder, an array `[N, H, W, C]` or a sequence of any of these.
      Arrays are of `dtype`, or of one that `data.pixels.convert` widens.
    channels: C, of the network's images.
    dtype: of these.

  Raises:
    UserError: a path does not exist, or an array is not of such images; the
      message says which, and what to do.
  """
  if isinstance(images, (str, os.PathLike)):
    return [*find_images([os.fspath(images)]).paths]
  if isinstance(images, Image.Image):
    return [images]
  if hasattr(images, 'ndim'):
    return _split(np.asarray(images), 'the images', channels, dtype)
  if not isinstance(images, collections.abc.Iterable):
    raise UserError(
      f'the images are of type {type(images).__name__}; give paths, images of '
      'Pillow or arrays of uint8'
    )
  found: list[ImageLike] = []
  for number, image in enumerate(images):
    if isinstance(image, (str, os.PathLike)):
      found += find_images([os.fspath(image)]).paths
    elif isinstance(image, Image.Image):
      found.append(image)
    elif hasattr(image, 'ndim'):
      found += _split(np.asarray(image), f'image {number}', channels, dtype)
    else:
      raise UserError(
        f'image {number} is of type {type(image).__name__}; give a path, an '
        'image of Pillow or an array of uint8'
      )
  return found


def prepare_images(
  images: Images, config: ml_collections.ConfigDict, exif_rotate: bool = True
) -> np.ndarray:
  """Resizes and crops images as in evaluation.

  Args:
    images: see `to_list`.
    config: as `TrainedModel.eval_config` returns it.
    exif_rotate: whether to turn photographs upright by their EXIF orientation.

  Returns:
    `[N, height, width, C]` of `prepared_dtype`; normalised on the device, in
    the network.

  Raises:
    UserError: see `to_list`; or a file cannot be read.
  """
  shape = image_shape(config.dataset)
  found = to_list(images, shape[-1], config.dataset.image_dtype)
  prepared = np.empty((len(found), *shape), prepared_dtype(config))
  for row, (_, image, error) in zip(
    prepared, read_images(found, config, exif_rotate), strict=True
  ):
    if error is not None:
      raise UserError(error)
    row[:] = image
  return prepared


def prepared_dtype(config: ml_collections.ConfigDict) -> np.dtype:
  """Returns the dtype of prepared images: uint8, or float32 for all others.

  Args:
    config: as `TrainedModel.eval_config` returns it.
  """
  is_uint8 = config.dataset.image_dtype == 'uint8'
  return np.dtype(np.uint8 if is_uint8 else np.float32)


def read_images(
  images: Sequence[ImageLike],
  config: ml_collections.ConfigDict,
  exif_rotate: bool,
  resize: bool = True,
) -> Iterator[tuple[ImageLike, np.ndarray | None, str | None]]:
  """Reads and prepares images in threads, in order.

  Args:
    images: as `to_list` returns them.
    config: as `TrainedModel.eval_config` returns it.
    exif_rotate: see `prepare_images`.
    resize: whether to resize and crop them; else they keep their size.

  Yields:
    The image as it was given, `[height, width, C]` of `prepared_dtype` and
    None; or, instead of the pixels, None and in one line why it cannot be read.
  """
  if not images:
    return

  def transform(pixels):
    return eval_transform(pixels, config.augment, config.dataset.image_size)

  wanted = {
    'channels': num_channels(config.dataset),
    'dtype': config.dataset.image_dtype,
  }
  dataset = grain.MapDataset.range(len(images)).map(
    lambda number: _prepare(
      images[number], transform if resize else _keep, exif_rotate, wanted
    )
  )
  options = grain.ReadOptions(limits.num_cores(), 2 * config.batch_size)
  yield from dataset.to_iter_dataset(options)


def decode(
  image: ImageLike,
  exif_rotate: bool = True,
  *,
  channels: int = 3,
  dtype: str = 'uint8',
) -> np.ndarray:
  """Returns the pixels of an image `[H, W, C]`, in its own size.

  Args:
    image: as `to_list` returns it.
    exif_rotate: see `prepare_images`.
    channels: C, of the network's images.
    dtype: of these.

  Raises:
    UserError: it cannot be read.
  """
  wanted = {'channels': channels, 'dtype': dtype}
  _, pixels, error = _prepare(image, _keep, exif_rotate, wanted)
  if error is not None:
    raise UserError(error)
  return pixels


def _keep(pixels):
  return pixels


def _split(array, where, channels, dtype):
  """Returns the images of an array, a list of `[H, W, C]`."""
  given = array.shape
  if array.ndim == 3:
    array = array[None]
  if array.ndim != 4 or array.shape[-1] != channels:
    shape = ' x '.join(map(str, given)) or 'a number'
    raise UserError(
      f'{where}: the array is {shape}, not [height, width, {channels}] or '
      f'[images, height, width, {channels}]; '
      + _advice_on_shape(array, channels)
    )
  if dtype != 'uint8' and array.dtype.name in _WIDER[dtype]:
    array = convert(array, channels, dtype)
  elif dtype != 'uint8':
    raise UserError(
      f'{where}: the pixels are {array.dtype}, and the network was trained on '
      f'{dtype}; give {" or ".join(_WIDER[dtype])}'
    )
  elif array.dtype != np.uint8:
    raise UserError(
      f'{where}: the pixels are {array.dtype}, of which it is not known what '
      'stands for black and white; give uint8 from 0 to 255, for values from 0 '
      'to 1: np.uint8(np.round(255 * images)); normalised images go to '
      'trained.model.apply(trained.variables, images, train=False)'
    )
  if not all(array.shape[1:]):
    raise UserError(f'{where}: the array has no pixels; leave it out')
  if array.dtype == np.float32 and not np.isfinite(array).all():
    raise UserError(f'{where}: values are not finite; leave it out')
  return list(array)


def _advice_on_shape(array, channels):
  if channels == 3 and array.ndim in (3, 4) and array.shape[-1] == 4:
    return 'leave out alpha: images[..., :3]'
  if array.ndim == 4 and array.shape[1] == channels:
    return 'channels come last: images.transpose(0, 2, 3, 1)'
  if channels == 3 and array.ndim in (2, 3, 4):
    grey = 'images' if array.shape[-1] == 1 else 'images[..., None]'
    return f'for grey images give np.repeat({grey}, 3, axis=-1)'
  return f'give an array with {channels} channels in its last axis'


def _prepare(image, transform, exif_rotate, wanted):
  """Returns a result of `read_images`."""
  where = 'the image'
  try:
    if isinstance(image, np.ndarray):
      return image, transform(image), None
    if isinstance(image, Image.Image):
      with _pillow:
        pixels = from_pillow(image, exif_rotate, **wanted)
      return image, transform(pixels), None
    where = image_files.display_name(image)
    with open(image, 'rb') as file:
      data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
      raise UserError(f'{where} has more than {_MAX_BYTES:,} bytes')
    has_many = count_pixels(data) > _MANY_PIXELS
    with _many_pixels if has_many else contextlib.nullcontext():
      pixels = decode_image(data, where, exif_rotate, **wanted)
      return image, transform(pixels), None
  except MemoryError:
    return image, None, f'{where} needs more memory than there is'
  except OSError as error:
    return image, None, f'{where} cannot be read ({error.strerror or error})'
  except UserError as error:
    return image, None, str(error)
