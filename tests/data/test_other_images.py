"""Sizes, channels and dtypes of images, against timm, Pillow and NumPy."""

import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from convmixer_jax import notes
from convmixer_jax.config import default_config
from convmixer_jax.data import pipeline
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.augment.resize import resize
from convmixer_jax.data.check_images import check_images
from convmixer_jax.data.examples import InMemorySource
from convmixer_jax.data.statistics import compute_statistics
from convmixer_jax.errors import UserError
from convmixer_jax.models import architecture_of, create_model, model_config
from convmixer_jax.pretrained.adapt import adapt_input, adapt_params

FIXTURE = np.load(
  pathlib.Path(__file__).parents[1] / 'fixtures/timm_other_images.npz'
)
RESAMPLE = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}


def draw(*shape, dtype=np.float32):
  rng = np.random.default_rng(1)
  if dtype == np.float32:
    return rng.normal(-40, 20, shape).astype(np.float32)
  return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def source_of(*images):
  return InMemorySource(
    [{'image': image, 'label': i % 2} for i, image in enumerate(images)],
    ('a', 'b'),
  )


@pytest.mark.parametrize(
  'key', [key for key in FIXTURE.files if key.startswith('size/')]
)
def test_evaluation_of_sizes_that_are_not_square_is_timms(key):
  height, width, fraction, *size = key.removeprefix('size/').split('_')
  config = ConfigDict(
    {'eval_crop_fraction': float(fraction), 'eval_interpolation': 'bicubic'}
  )
  size = tuple(map(int, size))
  picture = FIXTURE[f'picture/{height}_{width}']
  found = transforms.eval_transform(picture, config, size)
  np.testing.assert_array_equal(found, FIXTURE[key])


def test_kernels_are_adapted_as_by_timm():
  kernel = FIXTURE['kernel'].transpose(2, 3, 1, 0).reshape(16, 3, 8)
  for channels in (1, 2, 3, 4, 7, 12):
    expected = FIXTURE[f'kernel/{channels}'].transpose(2, 3, 1, 0)
    found = adapt_input(kernel, channels)
    np.testing.assert_allclose(
      found, expected.reshape(16, channels, 8), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
  'name', ['convmixer', pytest.param('vit', marks=pytest.mark.slow)]
)
def test_adapted_network_sees_a_grey_image_as_the_network_of_rgb_did(name):
  model = create_model(model_config(name, width=8, depth=1, patch_size=2), 3)
  architecture = architecture_of(model)
  grey = draw(2, 8, 8, 1)
  rgb = np.repeat(grey, 3, axis=-1)
  variables = model.init(jax.random.key(0), rgb, train=False)
  params = adapt_params(variables['params'], architecture, 3, 1, 'a')
  np.testing.assert_allclose(
    model.apply({**variables, 'params': params}, grey, train=False),
    model.apply(variables, rgb, train=False),
    rtol=1e-3,
    atol=1e-3,
  )
  like = architecture.variable_shapes(model, 8, 12)['params']
  params = adapt_params(variables['params'], architecture, 3, 12, 'a')
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, like)
  assert architecture.num_channels(params, {'patch_size': 2}) == 12
  with pytest.raises(UserError, match='only weights for RGB can be adapted'):
    adapt_params(params, architecture, 12, 5, 'a')


@pytest.mark.parametrize('resample', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(5, 31), (60, 20), (17, 23), (300, 3)])
def test_floats_are_resized_as_pillow_resizes_mode_f(resample, size):
  image = draw(17, 23, 12)
  expected = [
    np.asarray(
      Image.fromarray(image[..., k]).resize(size[::-1], RESAMPLE[resample])
    )
    for k in range(12)
  ]
  np.testing.assert_allclose(
    resize(image, *size, resample), np.stack(expected, -1), atol=3e-5
  )


@pytest.mark.parametrize('resample', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('channels', [1, 2, 4, 5, 10, 12])
@pytest.mark.parametrize('size', [(5, 31), (60, 20)])
def test_bytes_of_any_channels_are_resized_as_pillow_resizes_l(
  resample, channels, size
):
  image = draw(17, 23, channels, dtype=np.uint8)
  height, width = size
  expected = [  # width first, as up to Pillow 12
    np.asarray(
      Image.fromarray(image[..., k])
      .resize((width, 17), RESAMPLE[resample])
      .resize((width, height), RESAMPLE[resample])
    )
    for k in range(channels)
  ]
  found = resize(image, *size, resample)
  np.testing.assert_array_equal(found, np.stack(expected, -1))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 5])
def test_batches_have_the_size_and_the_channels(dtype, channels):
  config = default_config(ConfigDict())
  config.dataset.image_size = (6, 10)
  config.dataset.mean = config.dataset.std = (0.5,) * channels
  config.batch_size, config.seed = 4, 0
  config.input.num_workers = 0
  config.augment.flip = 1.0
  config.augment.crop = 'none'
  images = [draw(6, 10, channels, dtype=dtype) for _ in range(8)]
  source = source_of(*images)
  check_images(source, config)
  for batches, flips in (
    (pipeline.train_batches(source, config), True),
    (pipeline.eval_batches(source, config), False),
  ):
    batch = next(batches)
    batches.close()
    expected = images[0][:, ::-1] if flips else images[0]
    if dtype == np.uint16:
      expected = expected / np.float32(65535)
    assert batch['image'].shape == (4, 6, 10, channels)
    assert batch['image'].dtype == pipeline.batch_dtype(source)
    np.testing.assert_array_equal(batch['image'][0], expected)


def test_rand_augment_is_for_rgb_of_8_bits_only():
  config = default_config(ConfigDict())
  config.augment.rand_augment.num_ops = 2
  check_images(source_of(draw(4, 4, 3, dtype=np.uint8)), config)
  with pytest.raises(UserError, match='num_ops = 2 is for images of uint8'):
    check_images(source_of(draw(4, 4, 3)), config)


@pytest.mark.parametrize(
  ('image', 'message'),
  [
    (draw(4, 4, 5), 'data set has 5 channels, and 3 are wanted, as many as'),
    (draw(4, 4), r'is float32 of shape \(4, 4\); give arrays'),
    (draw(4, 4, 3).astype(float), 'is float64 of shape'),
    (np.full((4, 4, 3), np.inf, np.float32), 'not finite'),
    (None, 'is NoneType of shape'),
  ],
)
def test_images_of_another_kind_are_refused(image, message):
  with pytest.raises(UserError, match=message):
    check_images(source_of(image), default_config(ConfigDict()))


@pytest.mark.parametrize(
  ('image', 'mean', 'is_noted'),
  [
    (draw(4, 4, 3, dtype=np.uint8), (0.485, 0.456, 0.406), False),
    (draw(4, 4, 3, dtype=np.uint8), (123.7, 116.3, 103.5), True),
    (draw(4, 4, 3, dtype=np.uint16), (0.5,) * 3, False),
    (draw(4, 4, 3), (0.5,) * 3, True),
    (np.abs(draw(4, 4, 3)) / 120, (0.3,) * 3, False),
  ],
)
def test_mean_on_another_scale_than_the_pixels_is_noted(
  image, mean, is_noted, monkeypatch, capsys
):
  monkeypatch.setattr(notes, '_said', set())
  config = default_config(ConfigDict())
  config.dataset.mean = mean
  check_images(source_of(image), config)
  assert ('on another scale' in capsys.readouterr().err) == is_noted


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_statistics_are_numpys(dtype):
  images = [draw(5 + i, 9 - i, 4, dtype=dtype) for i in range(6)]
  if dtype == np.float32:  # a mean that is far from 0
    images = [image + np.float32(1e5) for image in images]
  found = compute_statistics(source_of(*images))
  values = np.concatenate([x.reshape(-1, 4) for x in images]).astype(np.float64)
  values /= {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
  np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-13)
  np.testing.assert_allclose(found.std, values.std(0), rtol=1e-10)
  np.testing.assert_allclose(found.low, values.min(0), rtol=1e-15)
  np.testing.assert_allclose(found.high, values.max(0), rtol=1e-15)
  assert found.sizes[5, 9] == 1 and sum(found.sizes.values()) == 6


def test_statistics_of_an_image_with_other_channels_are_refused():
  with pytest.raises(UserError, match='image 1 is uint8 and has 3 channels'):
    compute_statistics(
      source_of(draw(4, 4, 2, dtype=np.uint8), draw(4, 4, 3, dtype=np.uint8))
    )
