"""Decodes what Pillow does not: .npy files, and images of many bits or bands.

That is TIFF with bands of 16 bits, of floats or more than four, by tifffile;
and colour PNG of 16 bits, which Pillow reduces to 8, by OpenCV.
"""

import io
import math
import struct
import zlib

import cv2
import numpy as np

from convmixer_jax.errors import UserError

DTYPES = ('uint8', 'uint16', 'float32')
MAX_BYTES = 2**31  # of the values of an image
_NPY = b'\x93NUMPY'
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_RGB = 2  # of the tag PhotometricInterpretation
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_FLOATS = ('float16', 'float64')


def is_npy(data: bytes) -> bool:
  """Returns whether a file is one of NumPy's, by how it begins."""
  return data.startswith(_NPY)


def is_tiff(data: bytes) -> bool:
  """Returns whether a file is TIFF, by how it begins."""
  return data.startswith(_TIFF)


def is_deep_png(data: bytes) -> bool:
  """Returns whether a file is a PNG with channels of 16 bits, without palette.

  Grey ones, which Pillow decodes, are among them.
  """
  return data.startswith(_PNG) and data[24:25] == b'\x10'


def read_shape(data: bytes) -> tuple[int, int, int]:
  """Returns (height, width, channels) by the header of a .npy or TIFF file.

  Raises:
    UserError: it is TIFF, and tifffile is not installed.
    Exception: of any type, if it is damaged or has other axes.
  """
  if is_npy(data):
    shape = _read_npy_header(io.BytesIO(data))[0]
    height, width, channels = (*shape, 1) if len(shape) == 2 else shape
    return height, width, channels
  with _open_tiff(data) as file:
    series, axes = _find_series(file)
    height, width = (series.shape[axes.index(axis)] for axis in 'YX')
    return height, width, math.prod(series.shape) // (height * width)


def decode_npy(data: bytes) -> np.ndarray:
  """Returns the array of a .npy file, `[H, W, C]`; of `[H, W]`, C is 1.

  Raises:
    ValueError: it has other axes or values, or is damaged.
  """
  stream = io.BytesIO(data)
  shape, is_fortran, dtype = _read_npy_header(stream)
  if dtype.hasobject:
    raise ValueError('it has Python objects, which are not read')
  if len(shape) not in (2, 3):
    raise ValueError(
      f'its array has the shape {shape}, not (height, width) or (height, '
      'width, channels)'
    )
  expected = math.prod(shape) * dtype.itemsize
  _check_size(shape[:2], expected)
  if len(data) - stream.tell() != expected:
    raise ValueError(
      f'it has {len(data) - stream.tell():,} bytes of values, not {expected:,}'
    )
  array = np.frombuffer(data, dtype, offset=stream.tell())
  array = array.reshape(shape, order='F' if is_fortran else 'C')
  return to_supported(array if array.ndim == 3 else array[..., None])


def encode_npy(array: np.ndarray) -> bytes:
  """Returns an array as a .npy file."""
  stream = io.BytesIO()
  np.save(stream, array, allow_pickle=False)
  return stream.getvalue()


def _read_npy_header(stream):
  """Returns shape, whether it is in Fortran's order, and dtype."""
  version = np.lib.format.read_magic(stream)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(stream)
  if version == (2, 0):
    return np.lib.format.read_array_header_2_0(stream)
  raise ValueError(f'it has version {version} of the format')


def decode_tiff(data: bytes) -> tuple[np.ndarray, bool]:
  """Returns the bands of a TIFF file `[H, W, C]`, and whether they are RGB.

  Bands are its samples or its pages. RGB may have alpha.

  Raises:
    UserError: tifffile is not installed.
    Exception: of any type, if it is damaged.
  """
  with _open_tiff(data) as file:
    series, axes = _find_series(file)
    _check_size(series.shape, math.prod(series.shape) * series.dtype.itemsize)
    array = series.asarray()
    is_rgb = int(series.keyframe.photometric) == _RGB
  order = [axes.index('Y'), axes.index('X')]
  order += [axis for axis in range(array.ndim) if axis not in order]
  array = array.transpose(order)
  return to_supported(array.reshape(*array.shape[:2], -1)), is_rgb


def _open_tiff(data):
  try:
    import tifffile
  except ImportError as error:
    raise UserError(
      'a TIFF with such bands needs the package tifffile; install it: pip '
      "install 'convmixer-jax[tiff]', or, in a checkout, pip install '.[tiff]'"
    ) from error
  return tifffile.TiffFile(io.BytesIO(data))


def _find_series(file):
  """Returns the only image of a file and its axes, with 'Y' and 'X'."""
  if not file.series:
    raise ValueError('it has no image')
  series = file.series[0]
  axes = series.axes
  others = [
    size
    for axis, size in zip(axes, series.shape, strict=True)
    if axis not in 'YX' and size > 1
  ]
  if axes.count('Y') != 1 or axes.count('X') != 1 or len(others) > 1:
    raise ValueError(
      f'its axes are {axes}, of {series.shape}, not those of one image'
    )
  return series, axes


def decode_deep_png(data: bytes) -> np.ndarray:
  """Returns the pixels of a PNG with 16 bits, uint16 `[H, W, C]`.

  OpenCV can crash on damaged files, so it is given the image alone, once its
  checksums and its length are right.

  Raises:
    ValueError: it is damaged.
  """
  position, header, packed = len(_PNG), b'', []
  while position + 12 <= len(data):
    (length,) = struct.unpack_from('>I', data, position)
    chunk = data[position + 4 : position + 8 + length]
    end = data[position + 8 + length : position + 12 + length]
    if len(end) < 4 or zlib.crc32(chunk) != int.from_bytes(end):
      raise ValueError('it is damaged or truncated')
    if chunk[:4] == b'IHDR':
      header = chunk[4:]
    elif chunk[:4] == b'IDAT':
      packed.append(chunk[4:])
    position += 12 + length
  if len(header) != 13:
    raise ValueError('it has no header')
  width, height, depth, colour, *_, interlaced = struct.unpack(
    '>IIBBBBB', header
  )
  if depth != 16 or colour not in _PNG_CHANNELS or interlaced:
    raise ValueError('it is an interlaced PNG of 16 bits')
  row = 1 + 2 * width * _PNG_CHANNELS[colour]
  _check_size((height, width), height * row)
  inflate = zlib.decompressobj()
  rows = inflate.decompress(b''.join(packed), height * row + 1)
  if len(rows) != height * row:
    raise ValueError('it is damaged or truncated')
  whole = b''.join(
    struct.pack('>I', len(content))
    + name
    + content
    + struct.pack('>I', zlib.crc32(name + content))
    for name, content in (
      (b'IHDR', header),
      (b'IDAT', zlib.compress(rows, 1)),
      (b'IEND', b''),
    )
  )
  image = cv2.imdecode(
    np.frombuffer(_PNG + whole, np.uint8), cv2.IMREAD_UNCHANGED
  )
  if image is None or image.dtype != np.uint16:
    raise ValueError('OpenCV does not decode it')
  image = image.reshape(height, width, -1)
  if image.shape[-1] >= 3:  # OpenCV has blue first
    image = image[..., [2, 1, 0, *range(3, image.shape[-1])]]
  return np.ascontiguousarray(image)


def to_supported(array: np.ndarray) -> np.ndarray:
  """Returns an array as uint8, uint16 or float32.

  Raises:
    ValueError: it has other values, or such as are not finite.
  """
  name = array.dtype.name
  if name in _FLOATS:
    with np.errstate(over='ignore'):
      array = array.astype(np.float32)
  elif name not in DTYPES:
    raise ValueError(
      f'its values are {name}; convert them to uint8, uint16 or float32'
    )
  array = np.ascontiguousarray(array, array.dtype.newbyteorder('='))
  if array.dtype == np.float32 and not np.isfinite(array).all():
    count = int((~np.isfinite(array)).sum())
    raise ValueError(f'{count:,} of its values are not finite')
  return array


def _check_size(sides, num_bytes):
  if not num_bytes or min(sides) < 1:
    raise ValueError('it has no pixels')
  if num_bytes > MAX_BYTES:
    raise ValueError(f'its values take more than {MAX_BYTES:,} bytes')
