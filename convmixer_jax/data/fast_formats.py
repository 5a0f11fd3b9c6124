"""Which image files OpenCV decodes into the same pixels as Pillow.

OpenCV is faster, but pads a truncated file silently, converts CMYK and 16-bit
values differently, shows another frame of an animated PNG, and can crash on a
damaged PNG. So it is given only files whose structure is sound and simple.
"""

import functools
import io
import itertools
import re
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

# Grain runs many workers: a thread pool in each call would only compete.
cv2.setNumThreads(0)

_CV2_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
# Start-of-frame markers of baseline, extended and progressive Huffman coding.
_HUFFMAN_FRAMES, _PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
_TABLES, _SCAN, _END = 0xDB, 0xDA, 0xD9
_BYTES_PER_TABLE = 65  # its number, then 64 values
# Other segments that may precede the scan: Huffman tables, restart interval,
# comment and the applications' ones.
_OTHER_SEGMENTS = frozenset((0xC4, 0xDD, 0xFE, *range(0xE1, 0xF0)))
_JFIF, _JFIF_LENGTH = 0xE0, 16
_HEIGHT_AND_WIDTH = struct.Struct('>HH')
_MARKER_AFTER_SCAN = re.compile(rb'\xff[^\x00\xd0-\xd7]', re.DOTALL)
# Bit depth and colour type: grey, RGB, palette, grey + alpha, RGB + alpha.
_PNG_EIGHT_BIT = ((8, 0), (8, 2), (8, 3), (8, 4), (8, 6))
_PALETTE = 3
_HEADER_LENGTH = 13
# Of the chunks that change no pixel: the lengths that they may have.
_PNG_CHUNKS = {
  b'PLTE': range(3, 769, 3),
  b'bKGD': (1, 2, 6),
  b'cHRM': (32,),
  b'gAMA': (4,),
  b'pHYs': (9,),
  b'sBIT': range(1, 5),
  b'sRGB': (1,),
  b'tEXt': range(3, 2**16),
  b'tIME': (7,),
}


def decode(data: bytes, max_pixels: int) -> np.ndarray | None:
  """Decodes an image file with OpenCV if the result is known to equal Pillow's.

  Args:
    data: content of the file.
    max_pixels: larger images are not decoded.

  Returns:
    uint8 `[H, W, 3]`, RGB; None if Pillow has to decode the file, or to say
    what is wrong with it.
  """
  if data.startswith(_JPEG_START):
    pixels = _jpeg_pixels(data)
  elif data.startswith(_PNG_START):
    pixels = _png_pixels(data)
  else:
    return None
  if not 0 < pixels <= max_pixels or not _is_equal_build():
    return None
  try:
    return cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_FLAGS)
  except cv2.error:  # for example not enough memory
    return None


def _jpeg_pixels(data):
  """Returns the pixels of a complete 8-bit JPEG, grey or RGB, else 0."""
  if not data.endswith(_JPEG_END):
    return 0
  position, last = 2, len(data) - 10
  frame = pixels = 0
  while position <= last and data[position] == 0xFF:
    marker = data[position + 1]
    length = data[position + 2] << 8 | data[position + 3]
    if marker in _OTHER_SEGMENTS:  # most are
      position += 2 + length
      continue
    if marker == 0xFF:  # a fill byte
      position += 1
      continue
    if marker == _TABLES:
      values = data[position + 4 : position + 2 + length : _BYTES_PER_TABLE]
      if (length - 2) % _BYTES_PER_TABLE or (values and max(values) > 3):
        return 0
    elif marker in _HUFFMAN_FRAMES:
      if frame or data[position + 4] != 8 or data[position + 9] not in (1, 3):
        return 0
      frame = marker
      height, width = _HEIGHT_AND_WIDTH.unpack_from(data, position + 5)
      pixels = height * width
    elif marker == _SCAN:
      # Another marker begins the next scan of several, or is damage that
      # Pillow refuses and OpenCV does not.
      if frame == _PROGRESSIVE or _is_last_scan(data, position + 2 + length):
        return pixels
      return 0
    elif marker != _JFIF or (
      length < _JFIF_LENGTH and data.startswith(b'JFIF', position + 4)
    ):
      return 0
    position += 2 + length
  return 0


def _is_last_scan(data, start):
  """Returns whether only the end follows the scan that begins at `start`."""
  if start > len(data) - len(_JPEG_END):
    return False
  # This is twice as fast as the search, which only restart markers need.
  scan = np.frombuffer(data, np.uint8, offset=start)
  _, is_ff = cv2.threshold(scan[:-1], 0xFE, 0xFF, cv2.THRESH_BINARY)
  if cv2.countNonZero(cv2.bitwise_and(is_ff.ravel(), scan[1:])) == 1:
    return True
  found = _MARKER_AFTER_SCAN.search(data, start)
  return found is not None and found[0][-1] == _END


def _png_pixels(data):
  """Returns the pixels of a sound and simple 8-bit PNG, else 0."""
  view = memoryview(data)
  pixels, position = 0, len(_PNG_START)
  names = []
  while position + 12 <= len(data):
    length = int.from_bytes(view[position : position + 4])
    name = data[position + 4 : position + 8]
    end = position + 8 + length
    checksum = int.from_bytes(view[end : end + 4])
    if zlib.crc32(view[position + 4 : end]) != checksum:
      return 0
    if not names:
      if (name, length) != (b'IHDR', _HEADER_LENGTH):
        return 0
      width, height = (
        int.from_bytes(view[start : start + 4]) for start in (16, 20)
      )
      pixels = width * height
      if (data[24], data[25]) not in _PNG_EIGHT_BIT:
        return 0
    elif name not in (b'IDAT', b'IEND') and (
      length not in _PNG_CHUNKS.get(name, ()) or b'IDAT' in names[-1:]
    ):
      return 0
    names.append(name)
    position = end + 4
  order = [name for name, _ in itertools.groupby(names)]
  is_palette = data[25:26] == bytes([_PALETTE])
  if (
    position != len(data)
    or order[-2:] != [b'IDAT', b'IEND']
    or names[-2:] == [b'IEND', b'IEND']
    or order.count(b'IDAT') != 1
    or names.count(b'PLTE') > 1
    or (is_palette and b'PLTE' not in names)
  ):
    return 0
  return pixels


@functools.cache
def _is_equal_build():
  """Returns whether the JPEG decoders of both libraries give the same pixels.

  They do in their wheels; a system's package may use another libjpeg, or an
  option of the build that decodes less exactly.
  """
  picture = np.random.default_rng(0).integers(0, 256, (19, 37, 3), np.uint8)
  for sampling in (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
  ):
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    data = cv2.imencode('.jpg', picture, options)[1]
    with Image.open(io.BytesIO(data)) as file:
      expected = np.asarray(file.convert('RGB'))
    if not np.array_equal(cv2.imdecode(data, _CV2_FLAGS), expected):
      return False
  return True
