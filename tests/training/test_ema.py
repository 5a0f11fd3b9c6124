"""Moving averages of the parameters: equal to timm's, resumed, and loaded."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from run_files import read_state

from convmixer_jax.cli import convert
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.runs import load_run
from convmixer_jax.training import ema, loop
from convmixer_jax.training.lag import describe_ema_lag
from convmixer_jax.training.setup import set_up
from convmixer_jax.training.trainer import create_trainer

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'recipes.npz'


def as_variables(arrays, key, update):
  """Returns the variables of the fixture's BatchNorm after an update."""
  found = {
    name: arrays[f'ema/{key}/{name}'][update]
    for name in ('weight', 'bias', 'running_mean', 'running_var')
  }
  return {
    'params': {'scale': found['weight'], 'bias': found['bias']},
    'batch_stats': {'mean': found['running_mean'], 'var': found['running_var']},
  }


def assert_close(ours, theirs, rtol=1e-6):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7),
    ours,
    theirs,
  )


@pytest.mark.parametrize(
  ('average', 'power'), [('v2', 0.0), ('v3_warmup', 0.75)]
)
def test_each_update_equals_timms(config, average, power):
  config.ema_decay, config.ema_warmup_power = 0.9, power
  mean = {  # of a new BatchNorm
    'params': {'scale': jnp.ones(3), 'bias': jnp.zeros(3)},
    'batch_stats': {'mean': jnp.zeros(3), 'var': jnp.ones(3)},
  }
  with np.load(FIXTURE) as arrays:
    for step in range(8):
      variables = as_variables(arrays, 'model', step)
      mean = ema.update(mean, variables, jnp.int32(step), config)
      assert_close(mean, as_variables(arrays, average, step))


def test_a_decay_near_one_moves_by_its_complement(config):
  """In float32 the decay itself would be wrong by a part in 1000."""
  config.ema_decay, config.ema_warmup_power = 0.99996, 0.75
  step = jnp.int32(10_000_000)
  moved = jax.jit(lambda x: ema.update({'x': x}, {'x': x + 1}, step, config))
  np.testing.assert_allclose(moved(jnp.zeros(()))['x'], 4e-5, rtol=1e-5)


@pytest.fixture
def small(config):
  config.ema_decay, config.learning_rate = 0.8, 0.05
  config.model.width, config.num_steps = 4, 10
  return config


def take_steps(config, batches):
  """Yields the trainer and the state after each step."""
  mesh = sharding.create_mesh(config.mesh)
  trainer = create_trainer(config, mesh, num_classes=10, steps_per_epoch=10)
  state = trainer.create_state({})
  yield trainer, jax.device_get(state)
  for batch in batches:
    state, _ = trainer.train_step(state, sharding.to_global(batch, mesh))
    yield trainer, jax.device_get(state)


@pytest.mark.slow
def test_average_follows_parameters_and_statistics_of_each_step(small):
  rng = np.random.default_rng(0)
  batches = [
    {
      'image': rng.random((64, 8, 8, 3), np.float32),
      'label': rng.integers(0, 10, 64).astype(np.int32),
    }
    for _ in range(4)
  ]
  batches[2]['image'][:] = np.nan  # a step that is skipped
  mean = None
  for number, (last, state) in enumerate(take_steps(small, batches)):
    trainer = last
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    if number == 0:
      mean = variables
    elif number != 3:
      mean = jax.tree.map(lambda e, x: 0.8 * e + (1 - 0.8) * x, mean, variables)
    assert_close(state.ema, mean, rtol=1e-5)
  batch = batches[0] | {'mask': np.ones(64, np.float32)}
  evaluated = trainer.eval_step(state, batch)
  small.ema_evaluate = False
  ((raw, _),) = take_steps(small, [])
  as_raw = state.replace(**state.ema)
  jax.tree.map(
    np.testing.assert_array_equal, evaluated, raw.eval_step(as_raw, batch)
  )
  others = raw.eval_step(state, batch)
  assert float(others.eval_loss.total) != float(evaluated.eval_loss.total)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run of 12 steps with an average, and its config."""
  from configs import digits

  config = digits.get_config()
  config.model.width, config.model.depth, config.model.kernel_size = 8, 2, 3
  config.batch_size, config.num_steps = 256, 12
  config.ema_decay, config.ema_warmup_power = 0.7, 0.75
  config.repeated_augmentation, config.checkpoint_every_steps = 3, 7
  config.eval_every_epochs, config.keep_checkpoints = 2, 3
  config.input.num_threads = 2
  directory = tmp_path_factory.mktemp('ema') / 'run'
  results = loop.train_and_evaluate(config, str(directory))
  return directory, config, results


@pytest.mark.slow
def test_run_resumed_within_an_epoch_equals_an_undisturbed_one(run, tmp_path):
  whole, config, results = run
  pieces = tmp_path / 'pieces'
  shutil.copytree(whole, pieces)
  for path in (pieces / 'checkpoints').iterdir():
    if path.name != '7':  # an epoch is 5 steps
      shutil.rmtree(path)
  assert loop.train_and_evaluate(config, str(pieces)) == results
  state = read_state(whole, 12)
  jax.tree.map(np.testing.assert_array_equal, read_state(pieces, 12), state)
  differs = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), state['ema']['params'], state['params']
  )
  assert all(jax.tree.leaves(differs))


@pytest.mark.slow
def test_default_is_what_the_run_evaluated(run):
  directory, _, results = run
  state = read_state(directory, 12)
  trained = load(f'{directory}@newest')
  assert trained.origin == f'{directory}, step 12 (newest), EMA'
  assert trained.metrics == {
    name: pytest.approx(value) for name, value in results.items()
  }
  assert_close(trained.variables, state['ema'], rtol=0)
  raw = load(f'{directory}@newest', ema=False)
  assert raw.name.endswith(', step 12') and raw.metrics == {}
  assert_close(raw.variables['params'], state['params'], rtol=0)
  assert_close(raw.variables['batch_stats'], state['batch_stats'], rtol=0)


@pytest.mark.slow
def test_converted_weights_are_those_that_were_chosen(run, tmp_path):
  directory, *_ = run
  image = np.full((8, 8, 3), 100, np.uint8)
  logits = []
  for name, chosen in (('raw', False), ('ema', True), ('default', None)):
    file = str(tmp_path / f'{name}.safetensors')
    convert.convert(f'{directory}@newest', file, ema=chosen)
    logits.append(load(file).logits(image))
  np.testing.assert_array_equal(logits[1], logits[2])
  assert np.any(logits[0] != logits[1])


@pytest.mark.slow
def test_predictions_are_of_the_chosen_weights(run):
  opened = load_run(run[0])
  image = np.full((8, 8, 3), 100, np.uint8)
  probabilities = [
    opened.predict(image, checkpoint='newest', ema=chosen)[0].probabilities
    for chosen in (None, False, None)
  ]
  assert probabilities[0] == probabilities[2] != probabilities[1]


@pytest.mark.slow
def test_averages_that_are_not_there_are_refused(trained_run, run, tmp_path):
  with pytest.raises(UserError, match=r'config.ema_decay was 0; leave out'):
    load(str(trained_run), ema=True)
  assert not load(str(trained_run), ema=False).ema
  file = str(tmp_path / 'weights.safetensors')
  convert.convert(str(run[0]), file)
  with pytest.raises(UserError, match=r'is not a run.*leave out --ema'):
    load(file, ema=False)


def test_note_says_how_much_of_the_average_is_of_the_beginning(small, tmp_path):
  setup = set_up(small, str(tmp_path / 'run'))
  note = describe_ema_lag(setup, 5)
  assert 'after 5 updates 33 % of the average' in note
  assert 'before about step 21;' in note
  assert describe_ema_lag(setup, 21) is None
  small.init_from = 'runs/other'
  for params, is_random in (({'head': {}}, False), ({}, True)):
    started = dataclasses.replace(setup, pretrained={'params': params})
    assert (describe_ema_lag(started, 5) is not None) == is_random
  small.init_from, small.ema_warmup_power = '', 0.75
  assert describe_ema_lag(set_up(small, str(tmp_path / 'run')), 5) is None
