"""Repeated augmentation, against timm's form of DeiT's sampler."""

import itertools
import pathlib

import grain
import numpy as np
import pytest

from convmixer_jax.data import pipeline
from convmixer_jax.data.examples import InMemorySource
from convmixer_jax.data.repeated import RepeatedImages, steps_per_epoch
from convmixer_jax.errors import UserError

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'recipes.npz'


@pytest.fixture
def config(config):
  config.repeated_augmentation = 3
  config.batch_size, config.mixup.group_size = 32, 8
  return config


@pytest.fixture(scope='module')
def source():
  """300 images of one colour, labelled by their number."""
  return InMemorySource(
    [
      {'image': np.full((8, 8, 3), i % 256, np.uint8), 'label': i}
      for i in range(300)
    ],
    class_names=[str(i) for i in range(300)],
  )


def deal(order, num_ranks, repeats=3):
  """DeiT's rule: what each process gets of an epoch, in order."""
  repeated = [image for image in order for _ in range(repeats)]
  count = len(order) // 256 * 256 // num_ranks
  return [repeated[rank::num_ranks][:count] for rank in range(num_ranks)]


@pytest.mark.parametrize(
  ('images', 'ranks', 'group'),
  [(600, 4, 8), (1000, 16, 5), (200, 8, 3), (512, 1, 64)],
)
def test_groups_get_the_images_of_timms_processes(config, images, ranks, group):
  config.batch_size, config.mixup.group_size = ranks * group, group
  with np.load(FIXTURE) as arrays:
    order = arrays[f'sampler/{images}_{ranks}'].tolist()
    theirs = [arrays[f'sampler/{images}_{ranks}/{r}'] for r in range(ranks)]
  dataset = RepeatedImages(grain.MapDataset.source(order), config)
  rows = np.array([dataset[row] for row in range(len(dataset))])
  ours = rows.reshape(-1, ranks, group)
  assert len(ours) == len(theirs[0]) // group  # without the last, partial one
  assert len(ours) == steps_per_epoch(images, config)
  for rank in range(ranks):
    expected = theirs[rank][: ours[:, rank].size]
    np.testing.assert_array_equal(ours[:, rank].ravel(), expected)


def test_epochs_follow_deits_rule_with_the_shuffled_order(source, config):
  shuffled = grain.MapDataset.source(range(300)).seed(config.seed).shuffle()
  batches = pipeline.train_batches(source, config)
  steps = steps_per_epoch(300, config)
  assert steps == 256 // 4 // 8  # 300 images are rounded down to 256
  for epoch in range(3):
    labels = [batch['label'] for batch in itertools.islice(batches, steps)]
    ranks = np.stack(labels).reshape(steps, 4, 8).swapaxes(0, 1)
    order = [shuffled[epoch * 300 + i] for i in range(300)]
    np.testing.assert_array_equal(ranks.reshape(4, -1), deal(order, 4))
  batches.close()


def test_each_repeat_is_augmented_by_itself(source, config):
  def mark(image, rng):
    return np.full((8, 8, 3), rng.integers(256), np.uint8)

  batches = pipeline.train_batches(source, config, transform=mark)
  batch = next(batches)
  batches.close()
  marks = batch['image'][:, 0, 0, 0]
  assert len(set(batch['label'])) == 11  # 32 rows
  assert len(set(marks)) > 25


def test_batches_do_not_depend_on_processes_threads_and_first_step(
  source, config
):
  def labels_and_images(count, **options):
    batches = pipeline.train_batches(source, config, **options)
    found = list(itertools.islice(batches, count))
    batches.close()
    return found

  whole = labels_and_images(12)
  for first in (5, 9):  # within the first epoch, and in the second
    config.input.num_threads = 1
    resumed = labels_and_images(3, first_step=first)
    parts = [
      labels_and_images(
        3, first_step=first, process_index=index, process_count=2
      )
      for index in range(2)
    ]
    for step in range(3):
      for name in ('image', 'label'):
        expected = whole[first + step][name]
        np.testing.assert_array_equal(resumed[step][name], expected)
        halves = np.concatenate([part[step][name] for part in parts])
        np.testing.assert_array_equal(halves, expected)


def test_images_without_mixup_are_dealt_to_one_group(source, config):
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  batches = pipeline.train_batches(source, config)
  labels = next(batches)['label']
  batches.close()
  assert list(labels[0:30:3]) == list(labels[1:30:3]) == list(labels[2:30:3])


def test_an_epoch_without_a_batch_is_refused(config):
  config.batch_size, config.mixup.group_size = 300, 0
  with pytest.raises(UserError, match=r'more than an epoch has .* 256 of the'):
    steps_per_epoch(400, config)
  config.repeated_augmentation = 1
  assert steps_per_epoch(400, config) == 1


def test_more_repeats_than_images_are_refused(config):
  config.repeated_augmentation = 401
  with pytest.raises(UserError, match='401 is more than the 400 training'):
    steps_per_epoch(400, config)
