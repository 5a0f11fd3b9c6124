"""The optimizer with its clipping, decay mask and rates by part."""

import dataclasses
import functools

import jax
import ml_collections
import optax

from convmixer_jax.models.architecture import Architecture
from convmixer_jax.training import optimizers
from convmixer_jax.training.layer_decay import scale_by_layer


@dataclasses.dataclass(frozen=True)
class AdamWRule:
  """All that `optax.adamw` behind `optax.clip_by_global_norm` is made of.

  Attributes:
    schedule: the learning rate of each update.
    beta1: of the first moment.
    beta2: of the second moment.
    epsilon: added to the root of the second moment.
    weight_decay: multiplied with the learning rate.
    mask: of the parameters that are decayed; None: all.
    clip_norm: of the gradient; 0: it is not clipped.
  """

  schedule: optax.Schedule
  beta1: float
  beta2: float
  epsilon: float
  weight_decay: float
  mask: optimizers.Mask
  clip_norm: float


class PlainAdamW(optax.GradientTransformation):
  """An optimizer that is an `AdamWRule` and no more; it has it as `rule`."""

  rule: AdamWRule | None = None  # of a copy that was changed


def create_optimizer(
  config: ml_collections.ConfigDict,
  schedule: optax.Schedule,
  architecture: Architecture | None = None,
) -> optax.GradientTransformation:
  """Returns the optimizer behind a clip of the gradient's global norm.

  Weight decay goes to convolution and dense kernels, not to biases, norms and
  embeddings, unless `config.decay_all`; see `optimizers.create` for each
  optimizer's rule.

  With a `config.backbone_lr_scale` other than 1, all but the head have that
  times the learning rate; with 0 they do not change, weight decay or not. With
  a `config.layer_lr_decay` other than 1, each layer also has its own factor.
  AdamW without these is a `PlainAdamW`.

  Args:
    config: the whole config.
    schedule: the learning rate of each update.
    architecture: of the network: its head, its stacked blocks, the order of
      its layers. None: it has a `head`, and no stacked blocks.

  Raises:
    UserError: on the first use, if `config.layer_lr_decay` is given for a
      network whose layers have no order.
  """
  head = architecture.head if architecture else 'head'
  stacked = architecture.stacked if architecture else ()
  mask = None if config.decay_all else decay_mask
  create = functools.partial(
    optimizers.create, config, mask=mask, stacked=stacked
  )
  scale = config.backbone_lr_scale
  if scale == 1:  # without a second optimizer's state
    optimizer = create(schedule)
  else:
    slower = create(lambda step: scale * schedule(step))
    optimizer = optax.multi_transform(
      {
        'head': create(schedule),
        'backbone': slower if scale else optax.set_to_zero(),
      },
      lambda params: {
        name: 'head' if name == head else 'backbone' for name in params
      },
    )
  parts = [optimizer]
  if config.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  if config.layer_lr_decay != 1:
    if architecture is None:
      raise ValueError('config.layer_lr_decay needs the architecture')
    parts.append(scale_by_layer(architecture, config.layer_lr_decay))
  chained = optax.chain(*parts) if len(parts) > 1 else optimizer
  if config.optimizer != 'adamw' or {scale, config.layer_lr_decay} != {1}:
    return chained
  plain = PlainAdamW(*chained)
  plain.rule = AdamWRule(
    schedule,
    config.adam_beta1,
    config.adam_beta2,
    config.adam_epsilon,
    config.weight_decay,
    mask,
    config.clip_norm,
  )
  return plain


def decay_mask(params: optax.Params) -> optax.Params:
  """Returns, for each parameter, whether weight decay is meant for it."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel', params
  )
