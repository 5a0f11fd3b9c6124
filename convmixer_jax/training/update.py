"""The update of the state by a gradient, unless a number is not finite."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax import lax

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.training import ema
from convmixer_jax.training.optimizers import WITH_ADAM_MOMENTS
from convmixer_jax.training.own_optimizer import find_learning_rate


def update_state(
  state: TrainState,
  gradient: optax.Params,
  loss: jax.Array,
  batch_stats: Any,
  *,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule | None,
  config: ml_collections.ConfigDict,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Returns the state after a step, and what there is to report of it.

  If loss, gradient, update or statistics are not finite, only `step` changes.

  The check needs the whole update before any of the state may be written. On
  CPUs, where each pass over the parameters takes its time, Adam's new moments
  are not kept until then but computed again where they are written. SGD's
  momentum has the weight decay, so that would need a copy of the parameters.

  Args:
    state: before the step.
    gradient: of `loss`, like `state.params`.
    loss: float32 scalar.
    batch_stats: BatchNorm's new running statistics.
    optimizer: of the parameters.
    schedule: the learning rate of each update; None for an optimizer of the
      user's, whose counts then stay as they are.
    config: the whole config.

  Returns:
    The state, and float32 scalars `learning_rate`, `gradient_norm`,
    `parameter_norm` and `update_norm`, and the boolean `skipped`.
  """
  old_opt_state = state.opt_state
  if schedule is not None:
    old_opt_state = _set_schedule_count(old_opt_state, state.step)
  with jax.named_scope('optimizer'):  # profiles show it
    updates, opt_state = optimizer.update(gradient, old_opt_state, state.params)
  # Apart, for XLA:CPU would keep the squares for Adam's second moment.
  gradient_norm = optax.tree.norm(_fused_apart(gradient))
  update_norm = optax.tree.norm(updates)
  skipped = ~jnp.isfinite(
    loss + gradient_norm + update_norm + optax.tree.norm(batch_stats)
  )
  with jax.named_scope('optimizer'):
    if schedule is not None and config.optimizer in WITH_ADAM_MOMENTS:
      old_opt_state = _fused_apart(old_opt_state)
      _, opt_state = optimizer.update(gradient, old_opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
  if schedule is not None:
    learning_rate = schedule(state.step)
  else:
    learning_rate = find_learning_rate(opt_state)
  variables = {'params': params, 'batch_stats': batch_stats}
  averages = ema.update(state.ema, variables, state.step, config)
  with jax.named_scope('optimizer'):
    params, batch_stats, opt_state, averages = jax.tree.map(
      partial(jnp.where, skipped),
      (state.params, state.batch_stats, state.opt_state, state.ema),
      (params, batch_stats, opt_state, averages),
    )
  new_state = TrainState(
    state.step + 1, params, batch_stats, opt_state, averages
  )
  return new_state, {
    'learning_rate': learning_rate,
    'gradient_norm': gradient_norm,
    'parameter_norm': optax.tree.norm(params),
    'update_norm': update_norm,
    'skipped': skipped,
  }


def _set_schedule_count(opt_state, step):
  """Sets the count of the schedule to `step`; it leaves out skipped steps."""
  return optax.tree.set(
    opt_state,
    lambda path, _: path[-1].tuple_name == 'ScaleByScheduleState',
    count=step,
  )


def _fused_apart(tree):
  """Returns the tree, of which XLA:CPU does not know that it is the same.

  So what is computed from it is not kept in memory for what is computed from
  the tree itself. XLA for GPUs decides by itself what to compute twice.
  """
  return lax.platform_dependent(
    tree, cpu=lax.optimization_barrier, default=lambda tree: tree
  )
