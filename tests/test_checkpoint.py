"""Checkpoints: which are kept, and that they come back bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from convmixer_jax.training.checkpoint import Checkpointer
from convmixer_jax.training.metrics import empty_window
from convmixer_jax.training.steps import TrainState


def state_of(step):
  return TrainState(
    step=jnp.int32(step),
    params={'kernel': jax.random.normal(jax.random.key(step), (3,))},
    batch_stats={},
    opt_state=(),
  )


def test_keeps_the_last_and_the_best_over_restarts(tmp_path):
  accuracies = {2: 0.5, 3: 0.9, 5: 0.7}
  for steps in ((1, 2, 3, 4), (5, 6, 7)):
    checkpointer = Checkpointer(epath.Path(tmp_path), keep=2)
    for step in steps:
      metrics = None
      if step in accuracies:
        metrics = {'eval_accuracy': accuracies[step]}
      checkpointer.save(state_of(step), empty_window(), metrics)
    checkpointer.close()
  kept = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
  assert kept == {'3', '6', '7'}

  checkpointer = Checkpointer(epath.Path(tmp_path), keep=2)
  assert checkpointer.latest_step() == 7
  state, window = checkpointer.restore(7, state_of(0), empty_window())
  checkpointer.close()
  assert state.step == 7
  np.testing.assert_array_equal(
    state.params['kernel'], state_of(7).params['kernel']
  )
  assert window.train_loss.count == 0


def test_a_new_directory_has_none(tmp_path):
  checkpointer = Checkpointer(epath.Path(tmp_path), keep=1)
  assert checkpointer.latest_step() is None
  checkpointer.close()
