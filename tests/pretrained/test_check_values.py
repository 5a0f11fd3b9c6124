"""Weights whose values no trained network has: refused in every way in."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained import runs, weight_files
from convmixer_jax.pretrained.check_values import check_state, check_values
from convmixer_jax.pretrained.load import load, load_for_config

VARIANCE = 'blocks.0.3.running_var'
WEIGHT = 'head.weight'


@pytest.fixture(scope='module')
def tensors(trained_run, tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'good.safetensors'
  weight_files.save(load(trained_run), str(path))
  return safetensors.numpy.load_file(path)


@pytest.fixture
def write(tensors, tmp_path):
  """Writes a file with the first value of a tensor replaced."""

  def make(name, value, dtype=np.float32):
    changed = {
      key: tensor.astype(dtype) if tensor.dtype == np.float32 else tensor.copy()
      for key, tensor in tensors.items()
    }
    if name:
      changed[name].flat[0] = value
    path = str(tmp_path / 'weights.safetensors')
    safetensors.numpy.save_file(changed, path)
    return path

  return make


@pytest.mark.parametrize(
  ('name', 'value', 'dtype', 'kind'),
  [
    (VARIANCE, np.nan, np.float32, '1 NaN'),
    (VARIANCE, np.nan, np.float16, '1 NaN'),
    (VARIANCE, -1, np.float32, '1 negative'),
    (VARIANCE, -np.inf, np.float32, '1 infinite'),
    (WEIGHT, np.inf, np.float32, '1 infinite'),
    (WEIGHT, np.inf, jnp.bfloat16, '1 infinite'),
    (WEIGHT, 3.4e38, np.float32, '1 too large'),
    (WEIGHT, -1e300, np.float64, '1 too large'),
  ],
)
def test_file_is_refused_with_the_tensor_and_the_kind(
  write, config, name, value, dtype, kind
):
  path = write(name, value, dtype)
  size = '160' if name == WEIGHT else '16'
  for way in (
    lambda: load(path, 'gelu'),
    lambda: load_for_config(path, config.model),
  ):
    with pytest.raises(UserError, match=f'{name} has {kind} among') as error:
      way()
    assert path in str(error.value) and size in str(error.value)


@pytest.mark.parametrize('dtype', [np.float16, jnp.bfloat16, np.float64])
def test_file_of_any_floating_dtype_is_read(write, dtype):
  assert load(write('', None, dtype), 'gelu').num_classes == 10


def test_variance_of_zero_is_read(write):
  assert load(write(VARIANCE, 0), 'gelu').num_classes == 10


@pytest.mark.parametrize('dtype', [np.int32, np.complex64, np.bool_])
def test_tensors_of_other_kinds_are_refused(write, dtype):
  with pytest.raises(UserError, match=r'not of floating point: .*stem\.0'):
    load(write('', None, dtype), 'gelu')


def test_checkpoint_of_a_run_is_refused(trained_run, monkeypatch):
  read = runs.CheckpointReader.read_variables

  def with_nan(*arguments, **options):
    variables = read(*arguments, **options)
    head = variables['params']['head']
    head['kernel'] = head['kernel'].at[0, :2].set(jnp.nan)
    return variables

  monkeypatch.setattr(runs.CheckpointReader, 'read_variables', with_nan)
  with pytest.raises(UserError, match=r'params/head/kernel has 2 NaN among'):
    load(f'{trained_run}@newest')


def test_restored_state_is_refused_and_a_good_one_is_not():
  good = TrainState(
    step=jnp.int32(3),
    params={'head': {'bias': jnp.ones(3)}},
    batch_stats={'bn': {'var': jnp.zeros(3)}},
    opt_state=(jnp.int32(3), {'head': jnp.full(3, 1e30)}),
  )
  check_state(good, 'the checkpoint')
  bad = good.replace(opt_state=(jnp.int32(3), {'head': jnp.full(3, jnp.nan)}))
  with pytest.raises(UserError, match=r'opt_state/1/head has 3 NaN'):
    check_state(bad, 'the checkpoint')
  bad = good.replace(batch_stats={'bn': {'var': -jnp.ones(3)}})
  with pytest.raises(UserError, match=r'batch_stats/bn/var has 3 negative'):
    check_state(bad, 'the checkpoint')


def test_only_variances_may_not_be_negative():
  check_values({'params/x/var': -np.ones(2), 'x.mean': -np.ones(2)}, 'a file')
