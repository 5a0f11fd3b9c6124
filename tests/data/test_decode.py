"""Decoding equals Pillow's; damaged files are refused."""

import io
import os
import pathlib
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from convmixer_jax.data import fast_formats
from convmixer_jax.data.decode import MAX_PIXELS, count_pixels, decode_image
from convmixer_jax.errors import UserError

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures/timm_rand_augment.npz'


def decode_with_pillow(data):
  with warnings.catch_warnings():  # a palette's transparency is dropped
    warnings.simplefilter('ignore', UserWarning)
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def encode(image, file_format='JPEG', **options):
  stream = io.BytesIO()
  image.save(stream, file_format, **options)
  return stream.getvalue()


def chunk(name, content):
  body = name + content
  return (
    struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))
  )


def png(width, height, rows, colour=0, interlace=0, *chunks):
  """Returns a PNG of 8 bits, of the bytes of its rows."""
  header = struct.pack('>IIBBBBB', width, height, 8, colour, 0, 0, interlace)
  content = chunk(b'IDAT', zlib.compress(rows))
  return b''.join(
    [b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', header), *chunks, content]
    + [chunk(b'IEND', b'')]
  )


def interlaced(image):
  """Returns a PNG in the seven passes of Adam7."""
  rows = b''
  for y, x, dy, dx in (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
  ):
    for row in image[y::dy, x::dx]:
      rows += b'\0' + row.tobytes() if row.size else b''
  return png(image.shape[1], image.shape[0], rows, 2, 1)


def after_header(data, *chunks):
  return data[:33] + b''.join(chunks) + data[33:]


@pytest.fixture(scope='module', params=['whole', 'odd', 'row', 'pixel'])
def files(request):
  size = {'whole': (82, 69), 'odd': (37, 53), 'row': (1, 9), 'pixel': (1, 1)}
  height, width = size[request.param]
  with np.load(FIXTURE) as arrays:
    photo = Image.fromarray(arrays['image/photo'][:height, :width].copy())
  grey = photo.convert('L')
  rgba = photo.copy()
  rgba.putalpha(grey)
  rotated = Image.Exif()
  rotated[0x0112] = 6  # orientation: to be turned by 90 degrees
  result = {
    'grey jpeg': encode(grey),
    'cmyk jpeg': encode(photo.convert('CMYK')),
    'rotated jpeg': encode(photo, exif=rotated),
    'rgb jpeg': encode(photo, keep_rgb=True),
    'jpeg with restart markers': encode(photo, restart_marker_rows=1),
    'jpeg with trailing bytes': encode(photo) + b'behind',
    'grey png': encode(grey, 'PNG'),
    'palette png': encode(photo.quantize(200), 'PNG'),
    '4-bit png': encode(photo.quantize(16), 'PNG'),
    'transparent palette png': encode(
      photo.quantize(200), 'PNG', transparency=bytes(range(200))
    ),
    'transparent colour png': encode(photo, 'PNG', transparency=(1, 2, 3)),
    'grey alpha png': encode(rgba.convert('LA'), 'PNG'),
    'alpha png': encode(rgba, 'PNG'),
    'rotated png': encode(photo, 'PNG', exif=rotated),
    'webp': encode(photo, 'WEBP'),
    'gif': encode(photo, 'GIF'),
    'bmp': encode(photo, 'BMP'),
  }
  for subsampling in (0, 1, 2):
    for progressive in (False, True):
      name = f'4:{(4, 2, 0)[subsampling]} jpeg, progressive {progressive}'
      result[name] = encode(
        photo, subsampling=subsampling, progressive=progressive
      )
  for name in ('411', '420', '422', '440', '444'):
    sampling = getattr(cv2, f'IMWRITE_JPEG_SAMPLING_FACTOR_{name}')
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    data = cv2.imencode('.jpg', np.asarray(photo), options)[1].tobytes()
    result[f'4:{name[1]}:{name[2]} jpeg of OpenCV'] = data
  jpeg = encode(photo)
  adobe = b'\xff\xee\0\x0eAdobe\0\x64\0\0\0\0'
  whole = encode(photo, 'PNG')
  frames = {'save_all': True, 'append_images': [photo.transpose(0)]}
  result |= {
    'png': whole,
    'jpeg without JFIF': jpeg[:2] + jpeg[20:],
    'jpeg in RGB by Adobe': jpeg[:2] + adobe + b'\0' + jpeg[20:],
    'jpeg in YCC by Adobe': jpeg[:2] + adobe + b'\1' + jpeg[20:],
    'two jpegs': jpeg + encode(grey),
    'mpo': encode(photo, 'MPO', **frames),
    'bilevel png': encode(photo.convert('1'), 'PNG'),
    'interlaced png': interlaced(np.asarray(photo)),
    'palette shorter than its numbers': png(
      *(2, 1, b'\0\1\7', 3, 0, chunk(b'PLTE', bytes(range(9))))
    ),
    'png with gamma': after_header(
      whole, chunk(b'gAMA', struct.pack('>I', 20000)), chunk(b'sRGB', b'\0')
    ),
    'png with a damaged profile': encode(photo, 'PNG', icc_profile=b'none'),
    'png with trailing bytes': whole + b'behind',
    'animated png': encode(photo, 'PNG', **frames),
    'animated png with another default image': encode(
      photo, 'PNG', default_image=True, **frames
    ),
    'animated gif': encode(photo, 'GIF', **frames),
    'animated webp': encode(photo, 'WEBP', lossless=True, **frames),
    'transparent webp': encode(rgba, 'WEBP'),
    'cmyk tiff': encode(photo.convert('CMYK'), 'TIFF'),
    'bilevel tiff': encode(photo.convert('1'), 'TIFF'),
    'ppm': encode(photo, 'PPM'),
  }
  if features.check('avif'):
    result['avif'] = encode(photo, 'AVIF')
  return result


def test_pixels_equal_pillow(files):
  for name, data in files.items():
    image = decode_image(data, name)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, decode_with_pillow(data), name)


@pytest.mark.parametrize('name', ['rotated jpeg', 'png', 'webp'])
def test_truncated_file_names_the_record(files, name):
  data = files[name]
  for length in (0, 3, 30, len(data) // 2):
    with pytest.raises(ValueError, match='cannot decode image train 17:') as e:
      decode_image(data[:length], 'train 17')
    assert '\n' not in str(e.value) and ' at 0x' not in str(e.value)


def test_jpeg_without_its_end_is_truncated(files):
  with pytest.raises(ValueError, match='truncated'):
    decode_image(files['grey jpeg'][:-2], 'train 17')


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
def test_grey_images_of_more_than_8_bits_are_refused(dtype):
  """Pillow would turn all values from 255 on white."""
  deep = encode(Image.fromarray(np.full((4, 4), 1000, dtype)), 'TIFF')
  with pytest.raises(ValueError, match=r'image val 3.* values (of|are) '):
    decode_image(deep, 'val 3')


@pytest.mark.parametrize('data', [b'', b'no image', b'\xff\xd8\xff\xd9'])
def test_other_files_are_refused(data):
  with pytest.raises(ValueError, match='cannot decode image val 3: '):
    decode_image(data, 'val 3')


@pytest.mark.parametrize('shape', [(8, 9, 3), (8, 9)])
def test_usual_files_are_decoded_by_opencv(shape):
  image = Image.fromarray(np.full(shape, 77, np.uint8))
  for data in (encode(image), encode(image, 'PNG')):
    assert fast_formats.decode(data, 100) is not None
    assert fast_formats.decode(data, 71) is None


def test_damaged_png_is_not_given_to_opencv(files):
  # Of some, OpenCV 5.0 crashes.
  data = files['alpha png']
  for position in range(0, len(data), 1 + len(data) // 200):
    damaged = bytearray(data)
    damaged[position] ^= 16
    assert fast_formats.decode(bytes(damaged), MAX_PIXELS) is None


@pytest.mark.parametrize(
  'options', [{}, {'restart_marker_rows': 1}, {'progressive': True}]
)
def test_marker_among_the_pixels_of_a_jpeg_is_treated_as_pillow_does(options):
  """OpenCV makes pixels of what Pillow refuses."""
  noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
  data = encode(Image.fromarray(noise), **options)
  if not options.get('progressive'):
    assert fast_formats.decode(data, MAX_PIXELS) is not None
  refused = 0
  for marker in (0x02, 0xC4, 0xD9, 0xDA, 0xE1):
    damaged = bytearray(data)
    damaged[-600:-598] = 0xFF, marker
    try:
      expected = decode_with_pillow(damaged)
    except OSError:
      refused += 1
      with pytest.raises(UserError, match='cannot decode image x: '):
        decode_image(bytes(damaged), 'x')
    else:
      image = decode_image(bytes(damaged), 'x')
      np.testing.assert_array_equal(image, expected)
  assert refused


def test_huge_image_is_refused_without_its_memory():
  side = 40_000
  huge = png(side, side, bytes(9999))
  with pytest.raises(UserError, match=r'it has more than 178,956,970 pixels'):
    decode_image(huge, 'x')
  wide = encode(Image.new('1', (MAX_PIXELS // 2 + 1, 2)), 'TIFF')
  with pytest.raises(UserError, match=r'it has more than 178,956,970 pixels'):
    decode_image(wide, 'x')


def test_pixels_are_counted_by_the_header():
  assert count_pixels(png(30_000, 2_000, b'')) == 60_000_000
  assert count_pixels(b'no image') == 0


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_orientation_is_applied_if_asked_for(orientation, file_format):
  pixels = np.zeros((16, 24, 3), np.uint8)
  pixels[:8, :8] = 255
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encode(Image.fromarray(pixels), file_format, exif=exif)
  stored = decode_image(data, 'x')
  np.testing.assert_array_equal(stored, decode_with_pillow(data))
  with Image.open(io.BytesIO(data)) as file:
    upright = np.asarray(ImageOps.exif_transpose(file).convert('RGB'))
  turned = decode_image(data, 'x', exif_rotate=True)
  np.testing.assert_array_equal(turned, upright)
  if file_format != 'TIFF':  # which Pillow turns in any case
    assert (turned.shape != stored.shape) == (orientation > 4)


def test_damaged_exif_leaves_the_image_as_it_is_stored():
  data = encode(Image.new('RGB', (4, 6)), exif=b'Exif\0\0nothing that is EXIF')
  assert decode_image(data, 'x', exif_rotate=True).shape == (6, 4, 3)


def test_heif_is_named():
  data = b'\0\0\0\x18ftypheic' + bytes(100)
  with pytest.raises(UserError, match=r'it is HEIF, .*; convert it to JPEG'):
    decode_image(data, 'x')


def test_formats_that_start_other_programs_are_refused():
  script = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n'
  with pytest.raises(UserError, match='not an image that Pillow knows'):
    decode_image(script, 'x')


@pytest.mark.parametrize('error', [MemoryError(), OSError('disk')])
def test_other_errors_name_the_record(error, monkeypatch):
  def fail(*_):
    raise error

  monkeypatch.setattr(fast_formats, 'decode', fail)
  with pytest.raises(UserError, match='cannot decode image 3 of set train: '):
    decode_image(b'', '3 of set train')


@pytest.mark.slow
def test_pixels_of_photographs_equal_pillow():
  data_dir = os.environ.get('CONVMIXER_TEST_DATA')
  if not data_dir:
    pytest.skip('CONVMIXER_TEST_DATA names no TFDS data_dir')
  tfds = pytest.importorskip('tensorflow_datasets')
  try:
    builder = tfds.builder('imagenette/full-size-v2', data_dir=data_dir)
    source = builder.as_data_source(
      'train', decoders={'image': tfds.decode.SkipDecoding()}
    )
  except (tfds.core.DatasetNotFoundError, ValueError, OSError) as e:
    pytest.skip(f'no imagenette/full-size-v2 in {data_dir}: {e}')
  for index in range(0, len(source), 4):
    data = source[index]['image']
    image = decode_image(data, f'train {index}')
    np.testing.assert_array_equal(image, decode_with_pillow(data))
