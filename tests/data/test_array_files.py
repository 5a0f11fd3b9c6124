"""Images of other channels and dtypes, against Pillow, NumPy and tifffile."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from convmixer_jax.data.decode import (
  count_channels,
  count_pixels,
  decode_image,
  shorter_side,
)
from convmixer_jax.errors import UserError

tifffile = pytest.importorskip('tifffile')


def npy(array):
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


def tiff(array, **options):
  stream = io.BytesIO()
  tifffile.imwrite(stream, array, **options)
  return stream.getvalue()


def pillow(image, file_format='PNG', **options):
  stream = io.BytesIO()
  image.save(stream, file_format, **options)
  return stream.getvalue()


def draw(*shape, dtype=np.uint16):
  rng = np.random.default_rng(0)
  if np.dtype(dtype) == np.float32:
    return rng.normal(-40, 20, shape).astype(np.float32)
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def decode(data, channels, dtype=None, **options):
  return decode_image(data, 'a', channels=channels, dtype=dtype, **options)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('channels', [1, 2, 3, 5, 12])
def test_npy_and_tiff_keep_their_values(dtype, channels):
  image = draw(6, 9, channels, dtype=dtype)
  files = {
    'npy': npy(image),
    'big-endian': npy(image.astype(f'>{image.dtype.str[1:]}')),
  }
  files['fortran'] = npy(np.asfortranarray(image))
  if channels not in (1, 3):  # else photographs
    planes = image.transpose(2, 0, 1)
    grey = {'photometric': 'minisblack'}
    files['pixels'] = tiff(image, planarconfig='contig', **grey)
    files['pages'] = tiff(planes, **grey)
    files['planes'] = tiff(planes, planarconfig='separate', **grey)
    files['deflate'] = tiff(
      image, planarconfig='contig', compression='zlib', **grey
    )
  for kind, data in files.items():
    found = decode(data, channels)
    assert found.dtype == dtype, kind
    np.testing.assert_array_equal(found, image, kind)
    assert count_pixels(data) == 6 * 9, kind
    assert shorter_side(data) == 6, kind
    if channels > 3 and kind != 'pages':  # of which photographs have one
      assert count_channels(data) == channels, kind


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
@pytest.mark.parametrize('bands', [2, 4, 5])
def test_first_of_many_planes_is_not_taken_for_a_grey_image(bands, dtype):
  data = tiff(
    draw(bands, 6, 9, dtype=dtype),
    planarconfig='separate',
    photometric='minisblack',
  )
  assert count_channels(data) == bands
  for channels in (1, 3):
    with pytest.raises(UserError, match=f'has {bands} channels'):
      decode(data, channels)


def test_two_axes_are_one_channel():
  image = draw(6, 9, dtype=np.float32)
  np.testing.assert_array_equal(decode(npy(image), 1), image[..., None])
  np.testing.assert_array_equal(decode(tiff(image), 1), image[..., None])
  doubles = decode(npy(image.astype(np.float64)), 1)
  np.testing.assert_array_equal(doubles, image[..., None])


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_png_of_16_bits_equals_what_opencv_wrote(channels):
  image = draw(7, 5, channels)
  order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
  data = cv2.imencode('.png', image[..., order])[1].tobytes()
  found = decode(data, channels, 'uint16')
  np.testing.assert_array_equal(found, image)
  for cut in (len(data) - 20, len(data) // 2):
    with pytest.raises(UserError, match='cannot decode image a'):
      decode(data[:cut], channels, 'uint16')
  changed = bytearray(data)
  changed[60] ^= 1
  with pytest.raises(UserError, match='cannot decode image a'):
    decode(bytes(changed), channels, 'uint16')


def test_colour_of_16_bits_is_reduced_only_where_8_are_wanted():
  image = draw(7, 5, 3)
  data = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
  expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
  np.testing.assert_array_equal(decode(data, 3, 'uint8'), expected)
  np.testing.assert_array_equal(decode(data, 3), image)
  data = tiff(image, photometric='rgb')
  np.testing.assert_array_equal(decode(data, 3, 'uint16'), image)
  np.testing.assert_array_equal(decode(data, 3, 'uint8'), image >> 8)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_one_channel_is_pillows_luminance(mode):
  image = Image.fromarray(draw(8, 6, 3, dtype=np.uint8)).convert(mode)
  expected = np.asarray(image.convert('L'))[..., None]
  found = decode(pillow(image), 1)
  np.testing.assert_array_equal(found, expected)


def test_luminance_of_16_bits_has_pillows_weights():
  image = draw(8, 6, 3, dtype=np.uint8)
  grey = np.asarray(Image.fromarray(image).convert('L'), np.int64)
  deep = image.astype(np.uint16) * np.uint16(257)
  data = cv2.imencode('.png', deep[..., ::-1])[1].tobytes()
  found = decode(data, 1, 'uint16')[..., 0] / 257
  np.testing.assert_allclose(found, grey, atol=0.51)


def test_alpha_and_four_bands_are_four_channels():
  image = draw(8, 6, 4, dtype=np.uint8)
  np.testing.assert_array_equal(
    decode(pillow(Image.fromarray(image, 'RGBA')), 4), image
  )
  bands = tiff(image, photometric='rgb', extrasamples=['unspecified'])
  np.testing.assert_array_equal(decode(bands, 4), image)


def test_narrow_values_become_wider_by_their_ranges():
  bytes_, words = draw(6, 5, 1, dtype=np.uint8), draw(6, 5, 1)
  wide = decode(npy(bytes_), 1, 'uint16')
  np.testing.assert_array_equal(wide / 65535, bytes_ / 255)
  for image, largest in ((bytes_, 255), (words, 65535)):
    found = decode(npy(image), 1, 'float32')
    np.testing.assert_allclose(found, image / largest, rtol=1e-7)
  with pytest.raises(
    UserError, match='image a has values of uint16, and uint8'
  ):
    decode(npy(words), 1, 'uint8')


def test_grey_of_16_bits_becomes_rgb():
  image = draw(6, 5, 1)
  data = pillow(Image.fromarray(image[..., 0]))
  np.testing.assert_array_equal(decode(data, 3), np.repeat(image, 3, -1))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_pillows_for_one_channel(orientation):
  from PIL import ImageOps

  image = Image.fromarray(draw(8, 6, dtype=np.uint8))
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = pillow(image, exif=exif)
  expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
  found = decode(data, 1, exif_rotate=True)
  np.testing.assert_array_equal(found[..., 0], expected)


@pytest.mark.parametrize(
  ('data', 'channels', 'message'),
  [
    (npy(draw(6, 5, 4)), 12, 'image a has 4 channels, and 12 are wanted, as '),
    (npy(draw(6, 5, 3)), 1, 'image a has 3 channels, and 1 is wanted'),
    (npy(draw(12, 5, 6)), 12, 'its first axis has; channels are the last'),
    (
      tiff(draw(5, 6, 5), photometric='minisblack', planarconfig='separate'),
      3,
      'image a has 5 channels, and 3 are wanted',
    ),
    (pillow(Image.new('RGB', (4, 4))), 4, 'image a has 3 channels, and 4 are'),
    (npy(draw(6)), 1, r'shape \(6,\), not \(height, width\)'),
    (npy(draw(1, 6, 5, 1)), 1, r'not \(height, width\) or'),
    (npy(np.zeros((4, 4), np.int64)), 1, 'values are int64; convert them to'),
    (
      npy(np.full((4, 4), np.nan, np.float32)),
      1,
      '16 of its values are not fin',
    ),
    (npy(np.full((4, 4), 1e300)), 1, '16 of its values are not finite'),
    (npy(draw(6, 5))[:-1], 1, '59 bytes of values, not 60'),
    (npy(draw(0, 5)), 1, 'it has no pixels'),
    (npy(draw(6, 5))[:20], 1, 'cannot decode image a'),
    (tiff(draw(6, 5, 12))[:90], 12, 'cannot decode image a'),
    (tiff(draw(2, 2, 6, 5, 5)), 5, 'not those of one image'),
  ],
)
def test_other_files_are_refused(data, channels, message):
  with pytest.raises(UserError, match=message) as refused:
    decode(data, channels)
  assert '\n' not in str(refused.value)


def test_pickled_objects_are_not_read():
  stream = io.BytesIO()
  np.save(stream, np.array([[{}]], object), allow_pickle=True)
  with pytest.raises(UserError, match=r'cannot decode image a: .*objects'):
    decode(stream.getvalue(), 1)


def test_size_in_a_header_is_not_believed():
  stream = io.BytesIO()
  header = {'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 2**20)}
  np.lib.format.write_array_header_1_0(stream, header)
  with pytest.raises(UserError, match='more than 2,147,483,648 bytes'):
    decode(stream.getvalue(), 1)
