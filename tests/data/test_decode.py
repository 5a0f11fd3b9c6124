"""Decoding equals Pillow's; damaged files are refused."""

import io
import os
import pathlib
import warnings

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.data.decode import decode_image

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures/timm_rand_augment.npz'


def decode_with_pillow(data):
  with warnings.catch_warnings():  # a palette's transparency is dropped
    warnings.simplefilter('ignore', UserWarning)
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def encode(image, file_format='JPEG', **options):
  stream = io.BytesIO()
  image.save(stream, file_format, **options)
  return stream.getvalue()


@pytest.fixture(scope='module')
def files():
  with np.load(FIXTURE) as arrays:
    photo = Image.fromarray(arrays['image/photo'])
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
  result['png'] = encode(photo, 'PNG')
  return result


def test_pixels_equal_pillow(files):
  for name, data in files.items():
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', UserWarning)
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
  with pytest.raises(ValueError, match=r'image val 3: .* more than 8 bits'):
    decode_image(deep, 'val 3')


@pytest.mark.parametrize('data', [b'', b'no image', b'\xff\xd8\xff\xd9'])
def test_other_files_are_refused(data):
  with pytest.raises(ValueError, match='cannot decode image val 3: '):
    decode_image(data, 'val 3')


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
