"""Mixing and erasing against timm: its results for its draws, and its laws."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs import default
from convmixer_jax.training import preprocess

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'timm_mixing.npz'
UNLIKELY = 1e-3  # seeds are fixed: a test that passes once always passes
BACKGROUND = 100.0


def mix(images, targets, mixup):
  draw = jax.jit(functools.partial(preprocess.mixup_cutmix, config=mixup))
  return draw(images, targets, jax.random.key(0))


def erase(images, erasing):
  draw = jax.jit(functools.partial(preprocess.erase, config=erasing))
  return draw(images, jax.random.key(0))


@pytest.fixture(scope='module')
def timm():
  return dict(np.load(FIXTURES))


@pytest.fixture
def mixup():
  config = default.get_config().mixup
  config.mixup_alpha = config.cutmix_alpha = 0.5
  config.group_size = 2
  return config


@pytest.fixture
def erasing():
  config = default.get_config().erasing
  config.probability = 1.0
  return config


def test_mixed_images_equal_timms_for_its_draws(timm):
  num_groups = len(timm['share'])
  assert 0 < timm['use_cutmix'].sum() < num_groups
  labels = jax.nn.one_hot(timm['labels'], 10) * 0.9 + 0.01
  images, targets = preprocess.apply_mixup_cutmix(
    jnp.tile(timm['images'].astype(np.float32), (num_groups, 1, 1, 1)),
    jnp.tile(labels, (num_groups, 1)),
    jnp.asarray(timm['use_cutmix']),
    jnp.asarray(timm['share'], jnp.float32),
    jnp.asarray(timm['centre'], jnp.int32),
  )
  np.testing.assert_allclose(
    targets, timm['targets'].reshape(-1, 10), atol=1e-6
  )
  off = np.abs(images - timm['mixed'].reshape(images.shape))
  for group, use_cutmix in zip(
    np.split(off, num_groups), timm['use_cutmix'], strict=True
  ):
    if use_cutmix:
      assert group.max() == 0
    else:  # a product may be rounded once less where it is fused with the sum
      assert group.max() <= 1
      assert np.mean(group > 0) < 1e-3


@pytest.mark.parametrize('size', [(224, 224), (32, 32), (40, 9)])
def test_erased_boxes_have_timms_sides_for_its_draws(timm, size):
  height, width = size
  draws = timm[f'erasing_draws_{height}x{width}']
  boxes = timm[f'erasing_boxes_{height}x{width}']
  sides = preprocess.first_fitting_box(draws[:, 0], draws[:, 1], size)
  np.testing.assert_array_equal(np.stack(sides, axis=1), boxes[:, 2:])


def shares_of(alpha, mixup):
  mixup.mixup_alpha, mixup.cutmix_alpha = alpha, 0.0
  num_groups = 4000
  targets = jnp.tile(jnp.eye(2), (num_groups, 1))
  images = jnp.zeros((2 * num_groups, 1, 1, 3))
  _, targets = mix(images, targets, mixup)
  np.testing.assert_array_equal(targets[::2, 0], targets[1::2, 1])
  return np.asarray(targets[::2, 0])


@pytest.mark.parametrize('alpha', [0.2, 0.5, 1.0, 4.0])
def test_mixups_lambda_has_a_beta_distribution(alpha, mixup):
  shares = shares_of(alpha, mixup)
  assert np.all((shares >= 0) & (shares <= 1))
  assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > UNLIKELY
  of_neighbours = stats.pearsonr(shares[:-1], shares[1:])
  assert of_neighbours.pvalue > UNLIKELY


def test_cutmixs_boxes_have_timms_distribution(mixup):
  mixup.mixup_alpha = 0.0
  num_groups, (height, width) = 2000, (20, 16)
  targets = jnp.tile(jnp.eye(2), (num_groups, 1))
  images = jnp.zeros((num_groups, 2, height, width, 3)).at[:, 1].set(255.0)
  images, targets = mix(images.reshape(-1, height, width, 3), targets, mixup)
  boxes = np.asarray(images[::2, :, :, 0] == 255)
  np.testing.assert_allclose(targets[::2, 0], 1 - boxes.mean((1, 2)), atol=1e-6)

  rng = np.random.default_rng(0)
  share = rng.beta(0.5, 0.5, num_groups)
  expected = []
  for length in (height, width):
    side = (length * np.sqrt(1 - share)).astype(int)
    low = rng.integers(0, length, num_groups) - side // 2
    expected.append(np.clip(low + side, 0, length) - np.clip(low, 0, length))
  for axis, sides in ((2, expected[0]), (1, expected[1])):
    ours = boxes.any(axis).sum(1)
    theirs = np.where(expected[0] * expected[1] > 0, sides, 0)
    assert stats.ks_2samp(ours, theirs).pvalue > UNLIKELY


def test_mixup_or_cutmix_is_chosen_with_the_switch_probability(mixup):
  mixup.switch_probability = 0.3
  num_groups = 2000
  images = jnp.zeros((num_groups, 2, 4, 4, 3)).at[:, 1].set(255.0)
  images, _ = mix(
    images.reshape(-1, 4, 4, 3),
    jnp.zeros((2 * num_groups, 2)),
    mixup,
  )
  # Mixup changes all pixels alike, CutMix by all or nothing; lambda may round
  # to either's end.
  pixels = np.asarray(images[::2, :, :, 0]).reshape(num_groups, -1)
  blended = np.mean(np.any((pixels > 0) & (pixels < 255), axis=1))
  visible = np.mean(
    [0.5 < 255 * share < 254.5 for share in shares_of(0.5, mixup)]
  )
  assert abs(blended - 0.7 * visible) < 4 * np.sqrt(0.3 * 0.7 / num_groups)


def boxes_of(images):
  """Returns top, left, height and width of what is not background."""
  changed = np.any(np.asarray(images) != BACKGROUND, axis=-1)
  boxes = []
  for image in changed:
    rows, columns = np.where(image)
    top, left = rows.min(), columns.min()
    box = top, left, rows.max() - top + 1, columns.max() - left + 1
    assert len(rows) == box[2] * box[3]  # nothing in it was left out
    boxes.append(box)
  return np.array(boxes)


@pytest.mark.slow
def test_erasings_boxes_have_timms_distribution(timm, erasing):
  images = jnp.full((4000, 32, 32, 3), BACKGROUND)
  images = erase(images, erasing)
  ours, theirs = boxes_of(images), timm['erasing_law_32x32']
  for i in range(4):
    assert stats.ks_2samp(ours[:, i], theirs[:, i]).pvalue > UNLIKELY
  areas = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
  assert stats.ks_2samp(*areas).pvalue > UNLIKELY


@pytest.mark.slow
def test_erasing_happens_with_its_probability(erasing):
  erasing.probability = 0.25
  images = jnp.full((4000, 8, 8, 3), BACKGROUND)
  images = erase(images, erasing)
  share = np.mean(np.any(np.asarray(images) != BACKGROUND, axis=(1, 2, 3)))
  assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
