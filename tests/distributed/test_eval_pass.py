"""One pass over batches: padding, order, and what stays on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from convmixer_jax.distributed.eval_pass import pad, run_batches


@pytest.fixture
def mesh():
  return jax.make_mesh(
    (1, 1), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2
  )


def batches_of(*sizes):
  first = 0
  for size in sizes:
    numbers = np.arange(first, first + size)
    image = np.broadcast_to(numbers[:, None, None, None], (size, 2, 2, 3))
    yield {'image': image.astype(np.uint8) + 1, 'path': list(map(str, numbers))}
    first += size


def test_all_batches_have_one_shape_and_come_in_order(mesh):
  shapes = []

  @jax.jit
  def total(batch):
    shapes.append(jax.tree.map(jnp.shape, batch))
    return jnp.sum(batch['image'].astype(jnp.int32), (1, 2, 3)) * batch['mask']

  found = list(run_batches(total, batches_of(4, 4, 1), mesh, 4))
  assert shapes == [{'image': (4, 2, 2, 3), 'mask': (4,)}]  # compiled once
  assert [batch['path'] for batch, _ in found] == [
    ['0', '1', '2', '3'],
    ['4', '5', '6', '7'],
    ['8'],
  ]
  totals = np.concatenate([outputs for _, outputs in found])
  np.testing.assert_array_equal(
    totals, [12 * i for i in range(1, 10)] + 3 * [0]
  )
  assert all(isinstance(outputs, np.ndarray) for _, outputs in found)


def test_next_batch_starts_before_one_is_handled(mesh):
  events = []

  def function(batch):
    events.append(f'start {len(events)}')
    return batch['mask']

  for _ in run_batches(function, batches_of(2, 2), mesh, 2):
    events.append('handle')
  assert events == ['start 0', 'start 1', 'handle', 'handle']


def test_no_batch_gives_no_outputs(mesh):
  assert list(run_batches(lambda batch: batch, [], mesh, 2)) == []


def test_padding_is_masked():
  label = np.array([3, 4], np.int32)
  mask = np.array([1, 0], np.float32)
  image = np.ones((2, 2, 2, 3), np.uint8)
  full = {'image': image, 'label': label, 'mask': mask}
  assert all(pad(full, 2)[key] is full[key] for key in full)
  padded = pad(full, 3)
  np.testing.assert_array_equal(padded['mask'], [1, 0, 0])
  np.testing.assert_array_equal(padded['label'], [3, 4, 0])
  np.testing.assert_array_equal(padded['image'][:2], image)
  assert not padded['image'][2].any()
  assert {key: padded[key].dtype for key in padded} == {
    'image': np.uint8,
    'label': np.int32,
    'mask': np.float32,
  }
  np.testing.assert_array_equal(pad({'image': image}, 3)['mask'], [1, 1, 0])
