"""Mixing, normalising and erasing, against NumPy given the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.training import preprocess


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (16, 12, 10, 3), np.uint8),
    'label': np.arange(16, dtype=np.int32) % 10,
  }


def test_normalize_equals_numpy(config, batch):
  config.dataset.mean, config.dataset.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
  expected = (batch['image'] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
  np.testing.assert_allclose(
    preprocess.normalize(batch['image'], config.dataset), expected, 1e-5, 1e-5
  )


def test_without_augmentation_pixels_are_normalised_and_labels_one_hot(
  config, batch
):
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.erasing.probability = config.label_smoothing = 0.0
  images, targets = preprocess.preprocess_train(
    batch, jax.random.key(0), config, 10
  )
  np.testing.assert_array_equal(
    images, preprocess.normalize(batch['image'], config.dataset)
  )
  np.testing.assert_array_equal(targets, np.eye(10)[batch['label']])


def mixer(config, batch):
  """Returns what mixes the batch with the draws of a seed."""

  @jax.jit
  def mix(key):
    images, labels = jnp.float32(batch['image']), jnp.eye(10)[batch['label']]
    return preprocess.mixup_cutmix(images, labels, key, config.mixup)

  return lambda seed: jax.device_get(mix(jax.random.key(seed)))


@pytest.mark.parametrize(
  'group_size',
  [*(pytest.param(n, marks=pytest.mark.slow) for n in (4, 8)), 0],
)
def test_mixup_blends_each_group_with_its_reverse(config, batch, group_size):
  config.mixup.mixup_alpha, config.mixup.cutmix_alpha = 0.8, 0.0
  config.mixup.group_size = group_size
  images, targets = mixer(config, batch)(0)
  size = group_size or 16
  shares = set()
  for start in range(0, 16, size):
    rows = slice(start, start + size)
    own = np.float64(batch['image'][rows])
    others = own[::-1]
    labels = np.eye(10)[batch['label'][rows]]
    # Read lambda off a pair of different labels; it is the whole group's.
    share = float(targets[start, batch['label'][start]])
    shares.add(share)
    np.testing.assert_allclose(
      targets[rows], share * labels + (1 - share) * labels[::-1], atol=1e-6
    )
    mixed = share * own + (1 - share) * others
    assert np.abs(images[rows] - mixed).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(images[rows], np.rint(images[rows]))
  assert len(shares) == 16 // size


def test_cutmix_pastes_one_box_in_each_group(config, batch):
  config.mixup.mixup_alpha, config.mixup.cutmix_alpha = 0.0, 1.0
  config.mixup.group_size = 8
  areas, mix = [], mixer(config, batch)
  for seed in range(20):
    images, targets = mix(seed)
    for start in (0, 8):
      rows = slice(start, start + 8)
      own, others = batch['image'][rows], batch['image'][rows][::-1]
      pasted = np.any(images[rows] != own, axis=(0, 3))
      np.testing.assert_array_equal(
        images[rows], np.where(pasted[None, ..., None], others, own)
      )
      inside = np.argwhere(pasted)
      if len(inside):  # it is a box
        (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
        assert pasted[top:bottom, left:right].all()
      area = pasted.mean()
      areas.append(area)
      labels = np.eye(10)[batch['label'][rows]]
      np.testing.assert_allclose(
        targets[rows], (1 - area) * labels + area * labels[::-1], atol=1e-6
      )
  assert 0.1 < np.mean(areas) < 0.5 and np.std(areas) > 0.1


def erase(config, images, seed):
  erase = jax.jit(lambda *draw: preprocess.erase(*draw, config.erasing))
  return np.asarray(erase(images, jax.random.key(seed)))


def test_erasing_fills_boxes_with_noise(config):
  config.erasing.probability = 0.5
  images = jnp.full((512, 24, 20, 3), 7.0)
  erased = erase(config, images, 0)
  changed = erased != 7
  # All three channels of a pixel, or none.
  np.testing.assert_array_equal(changed.any(-1), changed.all(-1))
  boxes = changed.any(-1)
  hit = boxes.any((1, 2))
  assert 0.43 < hit.mean() < 0.57
  areas, aspects = [], []
  for box in boxes[hit]:
    inside = np.argwhere(box)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    assert box[top:bottom, left:right].all()
    areas.append(box.mean())
    aspects.append((bottom - top) / (right - left))
  assert 0.01 < min(areas) and max(areas) < 0.37
  assert 0.15 < np.mean(areas) < 0.2  # uniform between 2 % and 33 %
  assert 0.2 < min(aspects) and max(aspects) < 5
  assert abs(np.mean(np.log(aspects))) < 0.15
  noise = erased[changed]
  assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_erasing_with_probability_1_changes_every_image(config):
  images = jnp.zeros((64, 16, 16, 3))
  config.erasing.probability = 1.0
  assert np.any(erase(config, images, 0) != 0, axis=(1, 2, 3)).all()
