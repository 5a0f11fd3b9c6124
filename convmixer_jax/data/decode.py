"""Decodes image files into RGB pixels, exactly as Pillow does."""

import io

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from convmixer_jax.errors import UserError, one_line

# Grain runs many workers: a thread pool in each call would only compete.
cv2.setNumThreads(0)

_CV2_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
# Start-of-frame markers of baseline, extended and progressive Huffman coding.
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
# Bit depth and colour type: grey, RGB, palette, grey + alpha, RGB + alpha.
_PNG_EIGHT_BIT = ((8, 0), (8, 2), (8, 3), (8, 4), (8, 6))
_DEEP_MODES = ('I', 'F')  # prefixes of Pillow's modes with more than 8 bits


def decode_image(data: bytes, where: str) -> np.ndarray:
  """Decodes one image file.

  The result equals `PIL.Image.open(...).convert('RGB')` bit for bit: an alpha
  channel is dropped, an EXIF orientation is not applied. OpenCV, which is
  faster, decodes the kinds of file for which it gives the same pixels.

  Args:
    data: content of the file, in any format that Pillow reads.
    where: name of the record, for the error message.

  Returns:
    uint8 `[H, W, 3]`, RGB.

  Raises:
    UserError: `data` is not an image, is damaged or truncated, or is greyscale
      with more than 8 bits, which Pillow would turn white.
  """
  if _opencv_agrees(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_FLAGS)
    if image is not None:
      return image
  try:
    with Image.open(io.BytesIO(data)) as file:
      if file.mode.startswith(_DEEP_MODES):
        raise ValueError(f'mode {file.mode!r}, grey with more than 8 bits')
      return np.array(file.convert('RGB'))
  except Exception as e:  # codecs raise many types; always name the record
    reason = 'not an image that Pillow knows'
    if not isinstance(e, UnidentifiedImageError):
      reason = one_line(e, limit=None)
    raise UserError(
      f'cannot decode image {where}: {reason} ({len(data)} bytes); '
      'replace the file or leave it out of the data set'
    ) from e


def _opencv_agrees(data: bytes) -> bool:
  """Returns whether OpenCV decodes this kind of file as Pillow does.

  OpenCV pads a truncated file silently (so the end is checked here), and
  converts CMYK and 16-bit values differently.
  """
  if data.startswith(_JPEG_START):
    return data.endswith(_JPEG_END) and _jpeg_components(data) in (1, 3)
  if data.startswith(_PNG_START):
    return data.endswith(_PNG_END) and (data[24], data[25]) in _PNG_EIGHT_BIT
  return False


def _jpeg_components(data: bytes) -> int:
  """Returns the number of components of an 8-bit Huffman JPEG, else 0."""
  position = 2
  while position + 9 < len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    if marker == 0xFF:  # a fill byte
      position += 1
    elif marker in _HUFFMAN_FRAMES:
      return data[position + 9] if data[position + 4] == 8 else 0
    elif marker == 0xDA or 0xD0 <= marker <= 0xD9:  # scan data, or misplaced
      return 0
    else:
      position += 2 + int.from_bytes(data[position + 2 : position + 4])
  return 0
