"""The recipe on 1 and on 8 devices: equal numbers, and what they cost to share.

Each runs in a process of its own, since the XLA flag that makes one CPU several
devices must be set before JAX starts.
"""

import json

import commands
import numpy as np
import pytest
import recipe_process
from recipe_process import DEPTH

pytestmark = pytest.mark.slow

_NUM_NORMS = 1 + 2 * DEPTH
_GRADIENTS = (
  4 + 8 * DEPTH + 2
)  # patch embedding, blocks, head; with their norms
_RUNNING_STATISTICS = 2 * _NUM_NORMS
_METRICS = 2  # loss and accuracy


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  directory = tmp_path_factory.mktemp('recipe')
  arrays = {}
  for num_devices in (1, 8):
    out = directory / f'{num_devices}.npz'
    done = commands.run([recipe_process.__file__, out], num_devices=num_devices)
    assert done.returncode == 0, done.stderr
    arrays[num_devices] = dict(np.load(out))
  return arrays


@pytest.fixture(scope='module')
def found(results):
  found = json.loads(str(results[8]['found']))
  assert found['num_devices'] == 8
  return found


def test_preprocessing_is_identical_on_any_number_of_devices(results):
  np.testing.assert_array_equal(results[8]['images'], results[1]['images'])
  np.testing.assert_array_equal(results[8]['targets'], results[1]['targets'])


def test_training_is_equal_on_any_number_of_devices(results):
  names = results[1].keys() - {'found', 'images', 'targets'}
  assert any('batch_stats' in name or 'var' in name for name in names)
  for name in names:
    np.testing.assert_allclose(
      results[8][name], results[1][name], rtol=1e-5, atol=1e-6, err_msg=name
    )


def test_groups_that_straddle_devices_leave_each_its_own_images(found):
  # Otherwise each device would have activations of several devices' images.
  assert found['straddling_bytes'] < 2 * found['bytes']


def test_preprocessing_has_no_collectives(found):
  assert found['preprocess'] == []
  assert found['preprocess_straddling'] != []  # so the search finds something


@pytest.mark.parametrize('depthwise', ['shift', 'xla'])
def test_step_reduces_gradients_metrics_and_running_statistics(
  found, depthwise
):
  operations, dtypes, _ = zip(*found[depthwise], strict=True)
  assert set(operations) == {'all-reduce'}
  assert sum(map(len, dtypes)) == _GRADIENTS + _RUNNING_STATISTICS + _METRICS


def test_norms_over_the_whole_batch_reduce_forward_and_backward(found):
  whole, groups = len(found['whole_batch']), len(found['shift'])
  assert whole - groups == 2 * _NUM_NORMS


@pytest.mark.parametrize('depthwise', ['shift', 'xla'])
def test_step_in_bfloat16_reduces_in_float32(found, depthwise):
  for _, dtypes, widened in found[depthwise]:
    assert set(dtypes) == {'f32'}
    assert not widened
  ((_, _, widened),) = found['naive_gradient']
  assert widened  # so it would be seen
