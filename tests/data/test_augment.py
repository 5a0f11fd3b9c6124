"""Crop, flip and resize of an example equal timm's."""

import pathlib

import ml_collections
import numpy as np
import pytest
from scipy import stats

from configs import default
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.decode import decode_image
from convmixer_jax.errors import UserError
from convmixer_jax.training.validate import validate

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures/timm_transforms.npz'
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@pytest.fixture(scope='module')
def timm():
  with np.load(FIXTURE) as arrays:
    return dict(arrays)


def config(**changes):
  result = ml_collections.ConfigDict(
    {
      'crop': 'random_resized',
      'crop_scale': SCALE,
      'crop_ratio': RATIO,
      'interpolation': 'random',
      'flip': 0.5,
      'rand_augment': {
        'num_ops': 2,
        'policy': 'timm',
        'magnitude': 9.0,
        'magnitude_std': 0.5,
        'probability': 0.5,
        'increasing': True,
        'fill': (124, 116, 104),
      },
      'eval_crop_fraction': 0.96,
      'eval_interpolation': 'bicubic',
    }
  )
  for key, value in changes.items():
    owner = result.rand_augment if key in result.rand_augment else result
    owner[key] = value
  return result


def photo(timm):
  return decode_image(timm['file/jpeg'].tobytes(), 'fixture')


def test_eval_transform_equals_timm(timm):
  keys = [key for key in timm if key.startswith('eval/')]
  assert keys
  for key in keys:
    _, name, size, fraction = key.split('/')
    image = decode_image(timm[f'file/{name}'].tobytes(), name)
    settings = config(eval_crop_fraction=float(fraction))
    out = transforms.eval_transform(image, settings, int(size))
    np.testing.assert_array_equal(out, timm[key], key)


def test_eval_transform_at_224_resizes_to_233(monkeypatch):
  sizes = []
  resize = transforms.resize_and_crop
  monkeypatch.setattr(
    transforms,
    'resize_and_crop',
    lambda image, *args: sizes.append(args[:2]) or resize(image, *args),
  )
  image = np.zeros((375, 500, 3), np.uint8)
  assert transforms.eval_transform(image, config(), 224).shape == (224, 224, 3)
  assert sizes == [(233, 310)]


def test_crop_of_given_box_equals_timm(timm, monkeypatch):
  box = (3, 20, 180, 70)  # tall, see resize.py
  monkeypatch.setattr(transforms, 'draw_box', lambda *_: box)
  for resample in ('bilinear', 'bicubic'):
    settings = config(num_ops=0, flip=0.0, interpolation=resample)
    rng = np.random.default_rng(0)
    out = transforms.train_transform(photo(timm), settings, 48, rng)
    np.testing.assert_array_equal(out, timm[f'crop/{resample}'])


@pytest.mark.parametrize('height, width', [(375, 500), (32, 32)])
def test_crop_boxes_are_distributed_as_timms(timm, height, width):
  theirs = timm[f'boxes/{height}/{width}'].astype(np.float64)
  rng = np.random.default_rng(0)
  ours = np.array(
    [transforms.draw_box(height, width, SCALE, RATIO, rng) for _ in theirs]
  )
  for statistic in (
    lambda top, left, h, w: h * w,
    lambda top, left, h, w: w / h,
    # The position, as a fraction of the possible ones.
    lambda top, left, h, w: top / (height - h + 1),
    lambda top, left, h, w: left / (width - w + 1),
  ):
    assert (
      stats.ks_2samp(statistic(*ours.T), statistic(*theirs.T)).pvalue > 0.01
    )
  top, left, h, w = ours.T
  assert ours[:, 2:].min() > 0 and top.min() >= 0 and left.min() >= 0
  assert (top + h).max() <= height and (left + w).max() <= width


@pytest.mark.parametrize(
  'height, width, scale',
  [(20, 400, (0.95, 1)), (401, 30, (0.95, 1)), (64, 64, (1.5, 1.6))],
)
def test_fallback_is_the_central_box_of_timm(timm, height, width, scale):
  box = transforms.draw_box(
    height, width, scale, RATIO, np.random.default_rng(0)
  )
  assert list(box) == list(timm[f'fallback/{height}/{width}'])


def test_training_image_depends_only_on_the_generator(timm):
  images = [
    transforms.train_transform(
      photo(timm), config(), 64, np.random.default_rng(seed)
    )
    for seed in (1, 1, 2)
  ]
  assert images[0].shape == (64, 64, 3) and images[0].dtype == np.uint8
  np.testing.assert_array_equal(images[0], images[1])
  assert not np.array_equal(images[0], images[2])


def test_flip_happens_with_its_probability(timm):
  image = photo(timm)[:64, :64]
  flipped = 0
  rng = np.random.default_rng(0)
  settings = config(crop='none', num_ops=0, flip=0.3)
  for _ in range(1000):
    out = transforms.train_transform(image, settings, 64, rng)
    if not np.array_equal(out, image):
      np.testing.assert_array_equal(out, image[:, ::-1])
      flipped += 1
  assert stats.binomtest(flipped, 1000, 0.3).pvalue > 0.01


def test_image_is_resized_without_crop(timm):
  settings = config(crop='none', num_ops=0, flip=0.0, interpolation='bicubic')
  rng = np.random.default_rng(0)
  out = transforms.train_transform(photo(timm), settings, 50, rng)
  assert out.shape == (50, 50, 3)


@pytest.mark.parametrize(
  'field, value',
  [
    ('crop', 'center'),
    ('crop_scale', (0.5, 0.2)),
    ('crop_scale', (0.08, 1.5)),
    ('crop_ratio', (0, 1)),
    ('interpolation', 'nearest'),
    ('flip', 1.5),
    ('eval_crop_fraction', 0.0),
    ('rand_augment.num_ops', -1),
    ('rand_augment.policy', 'keras'),
    ('rand_augment.magnitude', 11.0),
    ('rand_augment.magnitude_std', -0.5),
    ('rand_augment.probability', -0.1),
    ('rand_augment.fill', (1, 2)),
  ],
)
def test_value_out_of_range_is_refused_by_name(field, value):
  whole = default.get_config()
  with whole.ignore_type():
    whole.augment.update_from_flattened_dict({field: value})
  with pytest.raises(UserError) as error:
    validate(whole)
  assert f'augment.{field} = {value!r}' in str(error.value)
  assert '\n' not in str(error.value)


def test_only_timm_allows_operations_that_do_not_increase():
  transforms.validate(config(increasing=False))
  with pytest.raises(UserError, match="increasing = False needs policy = 't"):
    transforms.validate(config(increasing=False, policy='torchvision'))


def test_valid_values_are_accepted():
  transforms.validate(config())
  transforms.validate(config(policy='torchvision', magnitude=30.0))
