"""AdamW's update of the state as one operation, `kernels.adamw`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from convmixer_jax import kernels
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.models import stacks
from convmixer_jax.training.optimizer import AdamWRule

# Parameters and optimizer state after an update; the norms of gradient, update
# and new parameters, float32 `[3]`; and whether the update was left out.
Updated = tuple[Any, optax.OptState, jax.Array, jax.Array]


def update(
  separate: Callable[[TrainState, Any, jax.Array], Updated],
  rule: AdamWRule,
  state: TrainState,
  gradient: Any,
  also_finite: jax.Array,
  new_counts: optax.OptState,
) -> Updated:
  """Returns what `separate` does of `state`, `gradient` and `also_finite`.

  Args:
    separate: computes it from operations of optax, wherever there is no kernel.
    rule: of the optimizer.
    state: before the update; parameters and moments are float32.
    gradient: like the parameters, or with `stacks.Blocks` in it.
    also_finite: float32 scalar without which the update is left out, too.
    new_counts: the optimizer's state after it; the moments are not used.
  """

  def separately(gradients, params, first, second, numbers, also_finite, state):
    del params, first, second, numbers
    whole = [
      jnp.stack(arrays) if len(arrays) > 1 else arrays[0].reshape(leaf.shape)
      for arrays, leaf in zip(
        gradients, jax.tree.leaves(state.params), strict=True
      )
    ]
    new_params, opt_state, norms, skipped = separate(
      state, jax.tree.unflatten(tree, whole), also_finite
    )
    adam = _adam_of(opt_state)
    arrays = map(jax.tree.leaves, (new_params, adam.mu, adam.nu))
    return *arrays, norms, skipped

  params, tree = jax.tree.flatten(state.params)
  is_decayed = (
    [True] * len(params)
    if rule.mask is None
    else jax.tree.leaves(rule.mask(state.params))
  )
  adam = _adam_of(state.opt_state)
  *arrays, norms, skipped = kernels.adamw(
    separately,
    stacks.leaves_in_blocks(gradient),
    params,
    jax.tree.leaves(adam.mu),
    jax.tree.leaves(adam.nu),
    _numbers(rule, _adam_of(new_counts).count, rule.schedule(state.step)),
    also_finite,
    state,
    decays=tuple(rule.weight_decay if one else 0.0 for one in is_decayed),
  )
  new_params, mu, nu = (jax.tree.unflatten(tree, leaves) for leaves in arrays)
  opt_state = jax.tree.map(
    partial(jnp.where, skipped), state.opt_state, new_counts
  )
  opt_state = jax.tree.map(
    lambda node: node._replace(mu=mu, nu=nu) if _is_adam(node) else node,
    opt_state,
    is_leaf=_is_adam,
  )
  return new_params, opt_state, norms, skipped


def _is_adam(node):
  return isinstance(node, optax.ScaleByAdamState)


def _adam_of(opt_state):
  """Returns the part of an optimizer's state that has the moments."""
  leaves = jax.tree.leaves(opt_state, is_leaf=_is_adam)
  return next(leaf for leaf in leaves if _is_adam(leaf))


def _numbers(rule, count, learning_rate):
  return {
    'keep_first': rule.beta1,
    'add_first': 1 - rule.beta1,
    'keep_second': rule.beta2,
    'add_second': 1 - rule.beta2,
    'unbias_first': 1 / (1 - rule.beta1**count),
    'unbias_second': 1 / (1 - rule.beta2**count),
    'epsilon': rule.epsilon,
    'learning_rate': learning_rate,
    'clip_norm': rule.clip_norm,
  }
