"""The rules of the updates by name, from optax: AdamW, SGD, LAMB, Lion."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

# Of the parameters: for each, whether weight decay is meant for it.
Mask = Callable[[Any], Any] | None

# Those with Adam's moments, which follow from the gradients alone.
WITH_ADAM_MOMENTS = ('adamw', 'lamb')


def create(
  config: ml_collections.ConfigDict,
  schedule: optax.Schedule,
  *,
  mask: Mask,
  stacked: tuple[str, ...] = (),
) -> optax.GradientTransformation:
  """Returns `config.optimizer`, with weight decay.

  Weight decay is multiplied with the learning rate, as by PyTorch: AdamW and
  Lion add it to the update, LAMB before the update is scaled, and SGD to the
  gradient. LAMB scales the update of each array to the norm of the array; of
  those without weight decay it does not, as in timm, nor does it take stacked
  blocks for one.

  Args:
    config: the whole config.
    schedule: the learning rate of each update.
    mask: of the parameters that are decayed; None: all.
    stacked: modules whose arrays have a leading axis of blocks.
  """
  decay = config.weight_decay
  adam = {
    'b1': config.adam_beta1,
    'b2': config.adam_beta2,
    'eps': config.adam_epsilon,
  }
  if config.optimizer == 'adamw':
    return optax.adamw(schedule, **adam, weight_decay=decay, mask=mask)
  if config.optimizer == 'lion':
    return optax.lion(
      schedule,
      b1=config.lion_beta1,
      b2=config.lion_beta2,
      weight_decay=decay,
      mask=mask,
    )
  if config.optimizer == 'sgd':
    return optax.chain(
      optax.add_decayed_weights(decay, mask),
      optax.sgd(schedule, config.momentum or None, nesterov=config.nesterov),
    )
  # Without weight decay none is scaled; the state keeps its places.
  trust_ratio = _scale_by_trust_ratio(stacked) if decay else optax.identity()
  if mask is not None:
    trust_ratio = optax.masked(trust_ratio, mask)
  return optax.chain(
    optax.scale_by_adam(**adam),
    optax.add_decayed_weights(decay, mask),
    trust_ratio,
    optax.scale_by_learning_rate(schedule),
  )


def _scale_by_trust_ratio(stacked):
  """`optax.scale_by_trust_ratio`, with a ratio for each block of a stack."""

  def update(updates, params):
    def scale(path, update, param):
      first = int(any(getattr(key, 'key', None) in stacked for key in path))
      axes = tuple(range(first, param.ndim))

      def norm(array):
        return jnp.sqrt(jnp.sum(jnp.square(array), axes, keepdims=True))

      param_norm, update_norm = norm(param), norm(update)
      ratio = param_norm / jnp.where(update_norm == 0, 1.0, update_norm)
      return update * jnp.where(
        (param_norm == 0) | (update_norm == 0), 1.0, ratio
      )

    return jax.tree_util.tree_map_with_path(scale, updates, params)

  return optax.stateless(update)
