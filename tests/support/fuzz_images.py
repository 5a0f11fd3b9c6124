"""Small images in all formats that Pillow writes, and corrupted ones."""

import io
import struct
import zlib

import numpy as np
from corruption import corrupt
from PIL import Image, features

from convmixer_jax.data import fast_formats
from convmixer_jax.data.decode import MAX_PIXELS, decode_image

_FORMATS = (
  *('BMP', 'DDS', 'GIF', 'ICO', 'IM', 'JPEG', 'PCX', 'PNG', 'PPM', 'SGI'),
  *('TGA', 'TIFF'),
)
_OPTIONAL = {'AVIF': 'avif', 'JPEG2000': 'jpg_2000', 'WEBP': 'webp'}


def encode(image, file_format='JPEG', **options):
  stream = io.BytesIO()
  image.save(stream, file_format, **options)
  return stream.getvalue()


def photo(height=40, width=50):
  y, x = np.mgrid[:height, :width] / 50
  waves = np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * x * y)], -1)
  noise = np.random.default_rng(0).normal(0, 8, waves.shape)
  return Image.fromarray(
    (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
  )


def sound_images():
  """Returns small image files by the name of their kind."""
  colour = photo()
  grey, alpha = colour.convert('L'), colour.copy()
  alpha.putalpha(grey)
  exif = Image.Exif()
  exif[0x0112] = 6
  formats = [*_FORMATS, *(k for k, v in _OPTIONAL.items() if features.check(v))]
  frames = {'save_all': True, 'append_images': [colour.transpose(0)]}
  return {
    **{name: encode(colour, name) for name in formats},
    'progressive': encode(colour, progressive=True, subsampling=2),
    'restarts': encode(colour, restart_marker_rows=1, exif=exif),
    'cmyk': encode(colour.convert('CMYK')),
    'grey': encode(grey),
    'mpo': encode(colour, 'MPO', **frames),
    'palette': encode(colour.quantize(16), 'PNG', transparency=3),
    'one bit': encode(colour.convert('1'), 'PNG'),
    'alpha': encode(alpha, 'PNG', exif=exif),
    'animated png': encode(colour, 'PNG', **frames),
    'animated gif': encode(colour, 'GIF', **frames),
    'deep': encode(Image.fromarray(np.full((9, 9), 999, np.uint16)), 'PNG'),
  }


def set_up(directory, trained_run):
  del directory, trained_run

  def read(content):
    data, exif_rotate = content
    image = decode_image(data, 'fuzz', exif_rotate)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.size
    fast = fast_formats.decode(data, MAX_PIXELS)
    if fast is not None:
      with Image.open(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(fast, np.asarray(file.convert('RGB')))

  cases = {
    name: (data, True)
    for name, data in sound_images().items()
    if name != 'deep'
  }
  return read, cases


def corrupt_image(cases, rng):
  names = sorted(cases)
  data, other = (
    cases[names[int(i)]][0] for i in rng.integers(len(names), size=2)
  )
  is_png = data.startswith(b'\x89PNG')
  data = corrupt(data, rng, other)
  if is_png and rng.random() < 0.7:
    data = with_checksums(data)
  return data, bool(rng.random() < 0.5)


def with_checksums(data):
  """Returns a PNG in which the checksum of each chunk is right."""
  fixed, position = data[:8], 8
  while position + 12 <= len(data):
    (length,) = struct.unpack('>I', data[position : position + 4])
    length = min(length, len(data) - position - 12)
    body = data[position + 4 : position + 8 + length]
    fixed += (
      struct.pack('>I', length) + body + struct.pack('>I', zlib.crc32(body))
    )
    position += 12 + length
  return fixed
