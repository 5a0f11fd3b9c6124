"""One batch is learned, or why not is said; nothing is written."""

import numpy as np
import pytest

from convmixer_jax.data import pipeline
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.sources import create_source
from convmixer_jax.errors import UserError
from convmixer_jax.training import overfit


@pytest.mark.slow
def test_a_small_network_learns_one_batch(config, tmp_path, monkeypatch):
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  config.batch_size, config.model.depth = 16, 1
  config = overfit.without_augmentation(config)
  steps, losses = zip(*overfit.overfit_one_batch(config), strict=True)
  assert steps == tuple(range(1, len(steps) + 1))
  assert losses[0] > 1 and losses[-1] <= overfit.ENOUGH < min(losses[:-1])
  assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_that_cannot_learn_is_refused(config):
  config.learning_rate, config.num_steps = 0.0, 3
  config = overfit.without_augmentation(config)
  losses = []
  with pytest.raises(UserError, match=r'was not learned: .* in step 3, not'):
    losses.extend(loss for _, loss in overfit.overfit_one_batch(config))
  assert len(losses) == 3 and len(set(losses)) == 1


@pytest.mark.slow
def test_a_learning_rate_that_diverges_is_refused(config):
  config.learning_rate, config.optimizer, config.clip_norm = 1e30, 'sgd', 0.0
  with pytest.raises(UserError, match=r'not finite in step|not learned'):
    list(overfit.overfit_one_batch(overfit.without_augmentation(config)))


def test_first_batch_has_the_images_of_training_without_augmentation(config):
  """Also where several processes make it."""
  config.augment.rand_augment.num_ops, config.augment.flip = 0, 0.0
  source = create_source(config.dataset, 'train')
  batch = pipeline.first_batch(source, config)
  trained = pipeline.train_batches(source, config)
  np.testing.assert_array_equal(batch['label'], next(trained)['label'])
  trained.close()
  halves = [
    pipeline.first_batch(source, config, process_index=p, process_count=2)
    for p in range(2)
  ]
  for name, whole in batch.items():
    parts = np.concatenate([half[name] for half in halves])
    np.testing.assert_array_equal(parts, whole)
  images = {
    transforms.eval_transform(
      example['image'], config.augment, config.dataset.image_size
    ).tobytes(): example['label']
    for example in (source[index] for index in range(len(source)))
  }
  for image, label in zip(batch['image'], batch['label'], strict=True):
    assert images[image.tobytes()] == label
