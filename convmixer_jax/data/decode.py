"""Decodes image files: photographs exactly as Pillow does, others unchanged."""

import functools
import io
import logging
import math
import warnings
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from convmixer_jax.data import array_files, fast_formats
from convmixer_jax.data.pixels import OtherPixels, convert, to_photo
from convmixer_jax.errors import UserError, one_line

# Pillow's own limit: about 0.5 GB in RGB, and 2 GB while Pillow converts it.
MAX_PIXELS = 178_956_970
# Formats that Pillow only recognises, or that it starts Ghostscript for.
NOT_DECODED = frozenset(('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF'))
_DEEP_MODES = ('I', 'F')  # prefixes of Pillow's modes with more than 8 bits
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 258, 277  # tags of TIFF
_GREY = ('1', 'L', 'LA', 'La')
_PALETTES = ('P', 'PA')
_HEIF_BRANDS = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1')
# Where a JPEG, PNG or WebP may have an orientation: in EXIF, or in XMP.
_MARKED = (b'\xff\xd8', b'\x89PNG', b'RIFF')
_ORIENTATION_MARKS = (b'Exif', b'EXIF', b'eXIf', b'exif', b'tiff:Orientation')

# It says of TIFF what it does not decode, which tifffile may, and which else is
# an error of ours.
for _name in ('PIL.TiffImagePlugin', 'tifffile'):
  logging.getLogger(_name).setLevel(logging.CRITICAL)
# Pillow warns from half of the limit on; `decode_image` checks the limit.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


def decode_image(
  data: bytes,
  where: str | Callable[[], str],
  exif_rotate: bool = False,
  *,
  channels: int = 3,
  dtype: np.dtype | str | None = 'uint8',
) -> np.ndarray:
  """Decodes one image file.

  Of three channels in uint8, the result equals `PIL.Image.open(...).convert(
  'RGB')` bit for bit: an alpha channel is dropped, a colour profile and gamma
  are ignored, and of an animation the first frame is taken. OpenCV, which is
  faster, decodes the kinds of file for which it gives the same pixels.

  Grey images become RGB; colour images become grey as by Pillow's 'L'; alpha is
  left out of one or three channels. All other files must have the channels that
  are wanted. A source opens its first file with `dtype=None`, which is the
  dtype that the file has, and then all files with that dtype: uint8 becomes
  uint16 or float32, and uint16 float32, by their ranges from 0 to 1. The other
  way around, values would be lost, and such a file is refused.

  Args:
    data: content of the file: in any format that Pillow decodes by itself; a
      TIFF of any number of bands; or a .npy file of `[H, W]` or `[H, W, C]`.
    where: name of the record, for the error message, or a function that
      returns it, for names that take time to find.
    exif_rotate: whether to turn the image upright as its EXIF data says, like
      `PIL.ImageOps.exif_transpose`. Pixels are otherwise as they are stored.
    channels: wanted, C, as many as `config.dataset.mean` has.
    dtype: wanted: uint8, uint16 or float32, or None for the file's own. Colour
      of 16 bits becomes uint8 as Pillow has it: the eight high bits.

  Returns:
    `[H, W, C]` of `dtype`.

  Raises:
    UserError: `data` is not an image, is damaged or truncated, is too large,
      needs more memory than there is, has other channels, values of another
      type or such as are not finite.
  """
  try:
    orientation = _orientation(data) if exif_rotate else 1
    image = None
    if channels == 3 and dtype in (None, 'uint8', np.uint8):
      image = fast_formats.decode(data, MAX_PIXELS)
    if image is None:
      image = convert(_decode(data, channels, dtype), channels, dtype)
    return _turn_upright(image, orientation)
  except OtherPixels as e:
    name = where() if callable(where) else where
    raise UserError(f'image {name} {e}') from e
  except Exception as e:  # codecs raise many types; always name the record
    name = where() if callable(where) else where
    if isinstance(e, UserError):
      raise UserError(f'image {name}: {e}') from e
    raise UserError(
      f'cannot decode image {name}: {_reason(e, data)} ({len(data)} bytes); '
      'replace the file or leave it out of the data set'
    ) from e


def _decode(data, channels, dtype):
  """Returns the pixels of a file as they are stored; grey or RGB of photos."""
  if array_files.is_npy(data):
    return array_files.decode_npy(data)
  # Pillow reduces 16 bits in colour to 8, which is right for photographs only.
  is_photo = channels in (1, 3)
  is_reduced = is_photo and dtype is not None and np.dtype(dtype) == np.uint8
  if array_files.is_deep_png(data) and not is_reduced:
    return to_photo(array_files.decode_deep_png(data), channels)
  if array_files.is_tiff(data) and not _is_for_pillow(
    data, channels, is_reduced
  ):
    image, is_rgb = array_files.decode_tiff(data)
    return to_photo(image, channels) if is_rgb else image
  with _open(data) as file:
    return _to_channels(file, channels)


def _is_for_pillow(data, channels, is_reduced):
  """Returns whether Pillow decodes all bands of a TIFF, and all their bits."""
  try:
    with _open(data) as file:
      bits = file.tag_v2.get(_BITS_PER_SAMPLE, (8,))
      if max(bits) > 8 and not file.mode.startswith(_DEEP_MODES):
        return is_reduced
      if max(bits) > 8 and file.tag_v2.get(_SAMPLES_PER_PIXEL, 1) > 1:
        return False  # of bands in planes, Pillow sees the first one
      if channels in (1, 3):  # of several pages, the first one
        return True
      is_whole = getattr(file, 'n_frames', 1) == 1
      return is_whole and channels == len(file.getbands())
  except UnidentifiedImageError:
    return False


def from_pillow(
  image: Image.Image,
  exif_rotate: bool = False,
  *,
  channels: int = 3,
  dtype: np.dtype | str | None = 'uint8',
) -> np.ndarray:
  """Returns the pixels of an open image, as `decode_image` does of its file.

  Args:
    image: it is loaded, but not changed.
    exif_rotate: see `decode_image`.
    channels: see `decode_image`.
    dtype: see `decode_image`.

  Returns:
    `[H, W, C]` of `dtype`.

  Raises:
    UserError: see `decode_image`.
  """
  name = getattr(image, 'filename', '') or f'of mode {image.mode}'
  try:
    if exif_rotate:
      image = ImageOps.exif_transpose(image)
    return convert(_to_channels(image, channels), channels, dtype)
  except OtherPixels as e:
    raise UserError(f'image {name} {e}') from e
  except Exception as e:
    if isinstance(e, Image.DecompressionBombError):
      reason = f'it has more than {MAX_PIXELS:,} pixels'
    else:
      reason = one_line(e, limit=None)
    raise UserError(
      f'cannot read image {name}: {reason}; give another one'
    ) from e


def count_pixels(data: bytes) -> int:
  """Returns height times width by the header of an image file, 0 without.

  More than `MAX_PIXELS` stands for any number that is too large.
  """
  try:
    return math.prod(_read_size(data))
  except Image.DecompressionBombError:
    return 2 * MAX_PIXELS
  except Exception:  # which decoding reports
    return 0


def count_channels(data: bytes) -> int:
  """Returns the channels of an image file without alpha; 3 where it is unknown.

  Palettes and other colours count as RGB.
  """
  try:
    is_tiff = array_files.is_tiff(data)
    if array_files.is_npy(data) or (
      is_tiff and not _is_for_pillow(data, 3, True)
    ):
      return array_files.read_shape(data)[2]
    with _open(data) as file:
      is_grey = file.mode in _GREY or file.mode.startswith(_DEEP_MODES)
      return 1 if is_grey else 3
  except Exception:  # which decoding reports
    return 3


def shorter_side(data: bytes) -> int:
  """Returns the pixels of it by the header of an image file, 0 without."""
  try:
    return min(_read_size(data))
  except Exception:  # which decoding reports
    return 0


def _read_size(data):
  """Returns height and width by the header of a file."""
  if array_files.is_npy(data):
    return array_files.read_shape(data)[:2]
  try:
    with _open(data) as file:
      return file.height, file.width
  except UnidentifiedImageError:
    if not array_files.is_tiff(data):
      raise
    return array_files.read_shape(data)[:2]  # of bands that Pillow lacks


def _to_channels(file, channels):
  """Returns Pillow's pixels, in RGB or grey if three or one are wanted."""
  if file.width * file.height > MAX_PIXELS:
    raise Image.DecompressionBombError
  if file.mode.startswith(_DEEP_MODES):
    return array_files.to_supported(np.array(file)[..., None])
  # Pillow warns of the transparency of a palette, which is dropped anyway.
  file.load()
  transparency = file.info.pop('transparency', None)
  mode = 'RGBA' if file.mode in _PALETTES else file.mode
  mode = {1: 'L', 3: 'RGB'}.get(channels, mode)
  image = np.array(file.convert(mode))
  if transparency is not None:
    file.info['transparency'] = transparency
  if not image.size:
    raise ValueError('it has no pixels')
  image = image if image.ndim == 3 else image[..., None]
  return image.astype(np.uint8, copy=False)


def _open(data):
  return Image.open(io.BytesIO(data), formats=_formats())


@functools.cache
def _formats():
  Image.init()
  return tuple(name for name in Image.ID if name not in NOT_DECODED)


def _orientation(data):
  """Returns the EXIF orientation, 1 to 8; 1 if it cannot be read."""
  is_marked = any(mark in data for mark in _ORIENTATION_MARKS)
  if data.startswith(_MARKED) and not is_marked:
    return 1
  try:
    with _open(data) as file:
      if file.format == 'TIFF':  # which Pillow turns itself
        return 1
      found = file.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # then decoding reports it, or the image is stored upright
    return 1
  return found if found in range(1, 9) else 1


def _turn_upright(image, orientation):
  if orientation == 1:
    return image
  if image.shape[-1] != 3 or image.dtype != np.uint8:
    if orientation in (5, 6, 7, 8):
      image = image.transpose(1, 0, 2)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return np.ascontiguousarray(image[rows, columns])
  upright = Image.fromarray(image)
  upright.getexif()[ExifTags.Base.Orientation] = orientation
  return np.array(ImageOps.exif_transpose(upright))


def _reason(error, data):
  """Returns in one line why an image cannot be decoded."""
  if isinstance(error, Image.DecompressionBombError):
    return f'it has more than {MAX_PIXELS:,} pixels'
  if isinstance(error, MemoryError):
    return 'there is not enough memory for its pixels'
  if data[4:8] == b'ftyp' and data[8:12] in _HEIF_BRANDS:
    return 'it is HEIF, which Pillow does not decode; convert it to JPEG'
  if isinstance(error, UnidentifiedImageError):
    return 'not an image that Pillow knows'
  return one_line(error, limit=None)
