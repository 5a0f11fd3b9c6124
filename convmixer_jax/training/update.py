"""The update of the state by a gradient, unless a number is not finite."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.models import stacks
from convmixer_jax.training import adamw, ema
from convmixer_jax.training.optimizer import AdamWRule, PlainAdamW
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
  one_operation: bool = True,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Returns the state after a step, and what there is to report of it.

  If loss, gradient, update or statistics are not finite, only `step` changes.

  Args:
    state: before the step.
    gradient: of `loss`, like `state.params`, or with `stacks.Blocks` in it.
    loss: float32 scalar.
    batch_stats: BatchNorm's new running statistics.
    optimizer: of the parameters.
    schedule: the learning rate of each update; None for an optimizer of the
      user's, whose counts then stay as they are.
    config: the whole config.
    one_operation: whether the update may be one operation, where a kernel has
      it; see `rule_of_kernel`.

  Returns:
    The state, and float32 scalars `learning_rate`, `gradient_norm`,
    `parameter_norm` and `update_norm`, and the boolean `skipped`.
  """
  also_finite = loss + optax.tree.norm(batch_stats)
  separate = partial(_update, optimizer, schedule, config)
  rule = None
  if one_operation:
    rule = rule_of_kernel(optimizer, schedule, state.params)
  if rule is not None:
    with jax.named_scope('optimizer'):
      _, new_counts = optimizer.update(
        stacks.stack(gradient), _set_schedule_count(state), state.params
      )
      params, opt_state, norms, skipped = adamw.update(
        separate, rule, state, gradient, also_finite, new_counts
      )
  else:
    params, opt_state, norms, skipped = separate(
      state, stacks.stack(gradient), also_finite
    )
  if schedule is not None:
    learning_rate = schedule(state.step)
  else:
    learning_rate = find_learning_rate(opt_state)
  variables = {'params': params, 'batch_stats': batch_stats}
  averages = ema.update(state.ema, variables, state.step, config)
  with jax.named_scope('optimizer'):
    batch_stats, averages = jax.tree.map(
      partial(jnp.where, skipped),
      (state.batch_stats, state.ema),
      (batch_stats, averages),
    )
  new_state = TrainState(
    state.step + 1, params, batch_stats, opt_state, averages
  )
  gradient_norm, update_norm, parameter_norm = norms
  return new_state, {
    'learning_rate': learning_rate,
    'gradient_norm': gradient_norm,
    'parameter_norm': parameter_norm,
    'update_norm': update_norm,
    'skipped': skipped,
  }


def rule_of_kernel(
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule | None,
  params: optax.Params,
) -> AdamWRule | None:
  """Returns the rule of an update that a kernel computes as a whole, or None.

  The kernel takes the gradients of blocks as they are, so that they need not be
  stacked, which is a pass over memory. It does not know of parameters that
  devices have parts of.

  Args:
    optimizer: of the parameters.
    schedule: see `update_state`.
    params: or their shapes and dtypes.
  """
  if schedule is None or not isinstance(optimizer, PlainAdamW):
    return None
  if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(params)):
    return None
  return optimizer.rule if kernels.has_adamw() else None


def _update(optimizer, schedule, config, state, gradient, also_finite):
  """Returns the update by operations of optax; see `adamw.Updated`.

  The check that all is finite needs the whole update before any of the state
  may be written. On CPUs, where each pass over the parameters takes its time,
  Adam's new moments are not kept until then but computed again where they are
  written. SGD's momentum has the weight decay, so that would need a copy of the
  parameters.
  """
  old_opt_state = state.opt_state
  if schedule is not None:
    old_opt_state = _set_schedule_count(state)
  with jax.named_scope('optimizer'):  # profiles show it
    updates, opt_state = optimizer.update(gradient, old_opt_state, state.params)
  # Apart, for XLA:CPU would keep the squares for Adam's second moment.
  gradient_norm = optax.tree.norm(_fused_apart(gradient))
  update_norm = optax.tree.norm(updates)
  skipped = ~jnp.isfinite(also_finite + gradient_norm + update_norm)
  with jax.named_scope('optimizer'):
    if schedule is not None and config.optimizer in WITH_ADAM_MOMENTS:
      old_opt_state = _fused_apart(old_opt_state)
      _, opt_state = optimizer.update(gradient, old_opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params, opt_state = jax.tree.map(
      partial(jnp.where, skipped),
      (state.params, state.opt_state),
      (params, opt_state),
    )
  norms = jnp.stack([gradient_norm, update_norm, optax.tree.norm(params)])
  return params, opt_state, norms, skipped


def _set_schedule_count(state):
  """Returns the optimizer's state with the step as the schedule's count.

  That leaves out skipped steps.
  """

  def set_count(node):
    return node._replace(count=state.step) if is_schedule(node) else node

  def is_schedule(node):
    return isinstance(node, optax.ScaleByScheduleState)

  return jax.tree.map(set_count, state.opt_state, is_leaf=is_schedule)


def _fused_apart(tree):
  """Returns the tree, of which XLA:CPU does not know that it is the same.

  So what is computed from it is not kept in memory for what is computed from
  the tree itself. XLA for GPUs decides by itself what to compute twice.
  """
  return lax.platform_dependent(
    tree, cpu=lax.optimization_barrier, default=lambda tree: tree
  )
