"""Steps that are not finite: skipped, counted, and in the end too many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from configs import default
from convmixer_jax.checkpoints.checkpointer import Progress
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.restore import restore
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer
from convmixer_jax.training import loop, schedules, steps, trainer
from convmixer_jax.training import optimizer as optimizer_lib
from convmixer_jax.training.preprocess import normalize
from convmixer_jax.training.tasks import ONE_CLASS

NUM_CLASSES = 10
WHITE = 255


@jax.custom_vjp
def poison_gradient(x, is_poisoned):
  """Is x, with a gradient of nan."""
  return x


poison_gradient.defvjp(
  lambda x, is_poisoned: (x, is_poisoned),
  lambda is_poisoned, g: (jnp.where(is_poisoned, jnp.nan, g), None),
)


class Poisoned(ConvMixer):
  """Goes wrong, as `wrong` says, on a batch with a white image."""

  wrong: str = 'loss'

  def __call__(self, images, *, train):
    is_white = jnp.any(jnp.min(images, axis=(1, 2, 3)) > 1.9)
    if self.wrong == 'statistics':  # the squares overflow, the mean does not
      images = jnp.where(is_white, 1e19 * images, images)
    logits = super().__call__(images, train=train)
    if self.wrong == 'loss':
      logits = jnp.where(is_white, jnp.inf, logits)
    if self.wrong == 'gradient':
      logits = poison_gradient(logits, is_white)
    return logits


@pytest.fixture
def small():
  config = default.get_config()
  config.batch_size = 32
  config.model.width, config.model.depth = 8, 1
  config.model.kernel_size = 3
  config.model.patch_size = 2
  config.model.depthwise = 'shift'
  return config


def create(config, wrong):
  model = Poisoned(**config.model, num_classes=NUM_CLASSES, wrong=wrong)
  schedule = schedules.create_schedule(config, 5, 10)
  optimizer = optimizer_lib.create_optimizer(config, schedule)
  state = jax.jit(lambda: steps.create_state(model, optimizer, config))()
  step = steps.make_train_step(model, optimizer, schedule, config)
  return state, jax.jit(step)


def batch_of(seed, white=False):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
  if white:
    image[-1] = WHITE
  return {'image': image, 'label': rng.integers(0, NUM_CLASSES, 32)}


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_finite(tree):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
  'wrong',
  [
    'gradient',
    *(pytest.param(w, marks=pytest.mark.slow) for w in ('loss', 'statistics')),
  ],
)
def test_nonfinite_step_changes_only_the_step_counter(small, wrong):
  state, train_step = create(small, wrong)
  before, metrics = train_step(state, batch_of(0))
  assert metrics.skipped_steps.total == 0
  after, metrics = train_step(before, batch_of(1, white=True))
  assert metrics.skipped_steps.total == 1
  assert_equal(after, before.replace(step=before.step + 1))
  assert_finite((after, metrics))
  assert metrics.train_loss.count == 0

  moved, metrics = train_step(after, batch_of(2))
  assert metrics.skipped_steps.total == 0
  assert_finite((moved, metrics))
  assert not np.array_equal(
    moved.params['head']['kernel'], after.params['head']['kernel']
  )


@pytest.mark.slow
def test_statistics_can_overflow_where_the_logits_do_not(small):
  """A variance of inf normalises everything to 0, and would be kept."""
  state, _ = create(small, 'statistics')
  model = Poisoned(**small.model, num_classes=NUM_CLASSES, wrong='statistics')
  logits, updated = model.apply(
    {'params': state.params, 'batch_stats': state.batch_stats},
    normalize(batch_of(0, white=True)['image'], small.dataset),
    train=True,
    mutable=['batch_stats'],
  )
  assert np.all(np.isfinite(logits))
  assert np.any(np.isinf(updated['batch_stats']['patch_bn']['var']))


@pytest.mark.slow
def test_one_nonfinite_microbatch_skips_the_step(small):
  small.accum_steps = 2
  state, train_step = create(small, 'loss')
  after, metrics = train_step(state, batch_of(0, white=True))
  assert metrics.skipped_steps.total == 1
  assert_equal(after, state.replace(step=state.step + 1))


@pytest.mark.slow
def test_learning_rate_follows_the_step_over_skipped_steps(small):
  small.weight_decay = 0.0
  state, train_step = create(small, 'loss')
  skipped, _ = train_step(state, batch_of(0, white=True))
  _, late = train_step(skipped, batch_of(1))
  _, early = train_step(state, batch_of(1))
  assert late.learning_rate.value == 2 * early.learning_rate.value
  np.testing.assert_allclose(
    late.update_norm.total, 2 * early.update_norm.total, rtol=1e-6
  )


@pytest.fixture
def run(small, tmp_path, monkeypatch):
  """Trains 8 steps, of which those given have a white image."""
  small.num_steps = 8
  small.eval_every_epochs = 100
  small.checkpoint_every_steps = 1
  small.keep_checkpoints = 100
  small.log_every_steps = 1

  def train(white_steps):
    def batches(source, config, *, first_step, **_):
      for step in range(first_step + 1, config.num_steps + 1):
        yield batch_of(step, white=step in white_steps)

    monkeypatch.setattr(loop.pipeline, 'train_batches', batches)
    monkeypatch.setattr(
      trainer,
      'create_model',
      lambda config, num_classes, *_: Poisoned(
        **config, num_classes=num_classes
      ),
    )
    return loop.train_and_evaluate(small, str(tmp_path / 'run'))

  return train


def checkpoints(config, directory):
  state, _ = create(config, 'loss')
  progress = Progress(ONE_CLASS.empty_window())
  return {
    step: restore(directory, step, state, progress)
    for step in range(1, config.num_steps + 1)
    if (directory / 'checkpoints' / str(step)).exists()
  }


@pytest.mark.slow
def test_run_continues_after_skipped_steps(run, small, tmp_path):
  small.max_nonfinite = 3
  assert_finite(run({3, 4, 6, 7}))
  rows = read_table(epath.Path(tmp_path / 'run' / 'metrics.csv'))
  counted = {step for step, row in rows.items() if row['skipped_steps']}
  assert counted == {3, 4, 6, 7}
  assert np.isnan(rows[3]['train_loss'])
  assert np.isfinite(rows[5]['train_loss'])
  found = checkpoints(small, epath.Path(tmp_path / 'run'))
  assert found.keys() == set(range(1, 9))
  assert_finite(found)
  assert_equal(found[2][0].params, found[4][0].params)


@pytest.mark.slow
@pytest.mark.parametrize('white', [{4, 5, 6, 7, 8}, {2, 6, 7, 8}])
def test_too_many_skipped_steps_in_a_row_stop_the_run(
  run, small, tmp_path, white
):
  small.max_nonfinite = 3
  small.checkpoint_every_steps = 2
  with pytest.raises(UserError) as caught:
    run(white)
  message = str(caught.value)
  assert '\n' not in message
  first = 4 if 4 in white else 6
  assert f'from step {first} to step {first + 2}' in message
  last = 6 if 8 in white and first == 6 else 4
  assert f'checkpoint is of step {last}, in {tmp_path / "run"}' in message
  found = checkpoints(small, epath.Path(tmp_path / 'run'))
  assert max(found) >= last
  assert_finite(found)


@pytest.mark.slow
def test_skipped_steps_in_a_row_are_counted_over_a_restart(run, small):
  small.max_nonfinite, small.num_steps = 3, 5
  run({4, 5})
  small.num_steps = 8
  with pytest.raises(UserError, match='from step 4 to step 6;'):
    run({4, 5, 6})


@pytest.mark.slow
def test_error_without_a_checkpoint_says_so(run, small):
  small.max_nonfinite = 2
  small.checkpoint_every_steps = 100
  with pytest.raises(UserError, match='was not yet written'):
    run(set(range(1, 9)))
