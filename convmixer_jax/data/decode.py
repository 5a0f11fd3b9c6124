"""Decodes image files into RGB pixels, exactly as Pillow does."""

import functools
import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from convmixer_jax.data import fast_formats
from convmixer_jax.errors import UserError, one_line

# Pillow's own limit: about 0.5 GB in RGB, and 2 GB while Pillow converts it.
MAX_PIXELS = 178_956_970
# Formats that Pillow only recognises, or that it starts Ghostscript for.
NOT_DECODED = frozenset(('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF'))
_DEEP_MODES = ('I', 'F')  # prefixes of Pillow's modes with more than 8 bits
_HEIF_BRANDS = (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1')
# Where a JPEG, PNG or WebP may have an orientation: in EXIF, or in XMP.
_MARKED = (b'\xff\xd8', b'\x89PNG', b'RIFF')
_ORIENTATION_MARKS = (b'Exif', b'EXIF', b'eXIf', b'exif', b'tiff:Orientation')

# Pillow warns from half of the limit on; `decode_image` checks the limit.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


def decode_image(
  data: bytes, where: str | Callable[[], str], exif_rotate: bool = False
) -> np.ndarray:
  """Decodes one image file.

  The result equals `PIL.Image.open(...).convert('RGB')` bit for bit: an alpha
  channel is dropped, a colour profile and gamma are ignored, and of an
  animation the first frame is taken. OpenCV, which is faster, decodes the kinds
  of file for which it gives the same pixels.

  Args:
    data: content of the file, in any format that Pillow decodes by itself.
    where: name of the record, for the error message, or a function that
      returns it, for names that take time to find.
    exif_rotate: whether to turn the image upright as its EXIF data says, like
      `PIL.ImageOps.exif_transpose`. Pixels are otherwise as they are stored.

  Returns:
    uint8 `[H, W, 3]`, RGB.

  Raises:
    UserError: `data` is not an image, is damaged or truncated, has more than
      `MAX_PIXELS`, needs more memory than there is, or is greyscale with more
      than 8 bits, which Pillow would turn white.
  """
  try:
    orientation = _orientation(data) if exif_rotate else 1
    image = fast_formats.decode(data, MAX_PIXELS)
    if image is None:
      image = _decode_with_pillow(data)
    return _turn_upright(image, orientation)
  except Exception as e:  # codecs raise many types; always name the record
    name = where() if callable(where) else where
    raise UserError(
      f'cannot decode image {name}: {_reason(e, data)} ({len(data)} bytes); '
      'replace the file or leave it out of the data set'
    ) from e


def from_pillow(image: Image.Image, exif_rotate: bool = False) -> np.ndarray:
  """Returns the pixels of an open image, as `decode_image` does of its file.

  Args:
    image: it is loaded, but not changed.
    exif_rotate: see `decode_image`.

  Returns:
    uint8 `[H, W, 3]`, RGB.

  Raises:
    UserError: see `decode_image`.
  """
  name = getattr(image, 'filename', '') or f'of mode {image.mode}'
  try:
    if exif_rotate:
      image = ImageOps.exif_transpose(image)
    return _to_rgb(image)
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
    with _open(data) as file:
      return file.width * file.height
  except Image.DecompressionBombError:
    return 2 * MAX_PIXELS
  except Exception:  # which decoding reports
    return 0


def shorter_side(data: bytes) -> int:
  """Returns the pixels of it by the header of an image file, 0 without."""
  try:
    with _open(data) as file:
      return min(file.size)
  except Exception:  # which decoding reports
    return 0


def _decode_with_pillow(data):
  with _open(data) as file:
    return _to_rgb(file)


def _to_rgb(file):
  if file.width * file.height > MAX_PIXELS:
    raise Image.DecompressionBombError
  if file.mode.startswith(_DEEP_MODES):
    raise ValueError(f'mode {file.mode!r}, grey with more than 8 bits')
  # Pillow warns of the transparency of a palette, which is dropped anyway.
  file.load()
  transparency = file.info.pop('transparency', None)
  image = np.array(file.convert('RGB'))
  if transparency is not None:
    file.info['transparency'] = transparency
  if not image.size:
    raise ValueError('it has no pixels')
  return image


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
