"""The optimizer with its clipping, decay mask and rates by part."""

import functools

import jax
import ml_collections
import optax

from convmixer_jax.models.architecture import Architecture
from convmixer_jax.training import optimizers
from convmixer_jax.training.layer_decay import scale_by_layer


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
  create = functools.partial(
    optimizers.create,
    config,
    mask=None if config.decay_all else decay_mask,
    stacked=stacked,
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
  return optax.chain(*parts) if len(parts) > 1 else optimizer


def decay_mask(params: optax.Params) -> optax.Params:
  """Returns, for each parameter, whether weight decay is meant for it."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel', params
  )
