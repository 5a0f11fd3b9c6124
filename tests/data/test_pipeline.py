"""Batch n depends on (seed, n) only, however the batches are made."""

import itertools

import numpy as np
import pytest

from convmixer_jax.data import pipeline
from convmixer_jax.data.examples import InMemorySource
from convmixer_jax.errors import UserError


@pytest.fixture
def source():
  """37 random images, labelled by their number."""
  rng = np.random.default_rng(0)
  return InMemorySource(
    [
      {'image': rng.integers(0, 255, (8, 8, 3), np.uint8), 'label': i}
      for i in range(37)
    ],
    class_names=[str(i) for i in range(37)],
  )


@pytest.fixture
def config(config):
  config.batch_size = 8
  return config


def take(batches, count):
  return list(itertools.islice(batches, count))


def assert_same_batches(ours, theirs):
  assert len(ours) == len(theirs)
  for a, b in zip(ours, theirs, strict=True):
    for name in ('image', 'label'):
      np.testing.assert_array_equal(a[name], b[name])


def test_batches_have_documented_shapes_and_dtypes(source, config):
  (batch,) = take(pipeline.train_batches(source, config), 1)
  assert batch['image'].shape == (8, 8, 8, 3)
  assert batch['image'].dtype == np.uint8
  assert batch['label'].shape == (8,) and batch['label'].dtype == np.int32


def test_each_epoch_has_each_image_once_in_a_new_order(source, config):
  steps = pipeline.steps_per_epoch(len(source), config)
  assert steps == 4
  batches = take(pipeline.train_batches(source, config), 3 * steps)
  epochs = np.split(np.concatenate([b['label'] for b in batches]), 3)
  for epoch in epochs:
    assert len(set(epoch)) == 32
  assert len({epoch.tobytes() for epoch in epochs}) == 3
  assert len(set(np.concatenate(epochs))) == 37  # what is dropped varies


def test_no_image_is_dropped_if_the_batch_size_divides(source, config):
  config.batch_size = 37
  (batch,) = take(pipeline.train_batches(source, config), 1)
  assert sorted(batch['label']) == list(range(37))


def test_an_image_is_augmented_differently_in_each_epoch(source, config):
  config.batch_size = 37
  first, second = take(pipeline.train_batches(source, config), 2)
  images = [b['image'][np.argsort(b['label'])] for b in (first, second)]
  differ = np.any(images[0] != images[1], axis=(1, 2, 3))
  assert differ.mean() > 0.9


def test_batches_can_start_at_any_step(source, config):
  batches = take(pipeline.train_batches(source, config), 11)
  for step in (1, 4, 9):
    rest = take(
      pipeline.train_batches(source, config, first_step=step), 11 - step
    )
    assert_same_batches(rest, batches[step:])


def test_batches_do_not_depend_on_threads(source, config):
  config.input.num_threads = 1
  one = take(pipeline.train_batches(source, config), 6)
  config.input.num_threads = 7
  assert_same_batches(take(pipeline.train_batches(source, config), 6), one)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # fork, in Grain
def test_batches_do_not_depend_on_worker_processes(source, config):
  threads = take(pipeline.train_batches(source, config), 6)
  config.input.num_workers = 2
  assert_same_batches(take(pipeline.train_batches(source, config), 6), threads)


@pytest.mark.parametrize('process_count', [2, 4])
def test_batches_do_not_depend_on_host_count(source, config, process_count):
  batches = take(pipeline.train_batches(source, config), 6)
  shares = [
    take(
      pipeline.train_batches(
        source, config, process_index=i, process_count=process_count
      ),
      6,
    )
    for i in range(process_count)
  ]
  together = [
    {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for parts in zip(*shares, strict=True)
  ]
  assert_same_batches(together, batches)


def test_batches_depend_on_the_seed(source, config):
  (one,) = take(pipeline.train_batches(source, config), 1)
  config.seed = 1
  (other,) = take(pipeline.train_batches(source, config), 1)
  assert not np.array_equal(one['label'], other['label'])


def test_evaluation_has_each_image_once_and_masks_the_padding(source, config):
  for process_count in (1, 2):
    rows = [
      row
      for i in range(process_count)
      for batch in pipeline.eval_batches(
        source, config, process_index=i, process_count=process_count
      )
      for row in zip(batch['mask'], batch['label'], batch['image'], strict=True)
    ]
    assert len(rows) == 40
    real = {int(label): image for mask, label, image in rows if mask}
    assert sorted(real) == list(range(37))
    assert sum(mask for mask, _, _ in rows) == 37
    for label, image in real.items():
      np.testing.assert_array_equal(image, source[label]['image'])


def test_batch_larger_than_the_data_set_is_refused(config):
  config.batch_size = 38
  with pytest.raises(UserError, match='batch_size = 38 is more than the 37'):
    pipeline.steps_per_epoch(37, config)


def test_workers_are_used_unless_the_images_are_in_memory(source):
  class OnDisk:
    num_classes = 1

  assert pipeline.default_num_workers(source, 100) == 0
  assert pipeline.default_num_workers(OnDisk(), 1) == 0
  assert pipeline.default_num_workers(OnDisk(), 2) == 2
  assert pipeline.default_num_workers(OnDisk(), 16) == 8
  assert pipeline.default_num_workers(OnDisk(), 100) == 32
