"""The optimizer with its schedule, clipping, decay mask and rates by part."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import optax

from convmixer_jax.errors import UserError
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.training import optimizers
from convmixer_jax.training.layer_decay import scale_by_layer


def create_schedule(
  config: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int
) -> optax.Schedule:
  """Returns the learning rate of each update, by its number from 0.

  'triangular', of ConvMixer's authors: up to the peak until 2/5 of the epochs,
  down to a twentieth of it until 4/5, down to 0, turning at whole epochs
  (rounded down) where there are at least five; an update has the rate of the
  end of its step, so the last has 0. 'cosine' and 'constant' follow a linear
  warm-up of `warmup_epochs`.

  Args:
    config: the whole config.
    steps_per_epoch: updates in an epoch.
    num_steps: updates in the whole run.

  Raises:
    UserError: the run ends before the warm-up does.
  """
  peak = config.learning_rate
  if config.schedule == 'triangular':
    epochs = config.num_epochs
    if config.num_steps or epochs < 5:  # too few to turn at whole ones
      turns = [0, num_steps * 2 // 5, num_steps * 4 // 5, num_steps]
    else:
      turns = [0, epochs * 2 // 5, epochs * 4 // 5, epochs]
      turns = [epoch * steps_per_epoch for epoch in turns]
    rates = [0, peak, peak / 20, 0]
    return lambda step: jnp.interp(
      step + 1.0, jnp.array(turns, jnp.float32), jnp.array(rates, jnp.float32)
    )
  warmup_steps = round(config.warmup_epochs * steps_per_epoch)
  if warmup_steps >= num_steps:
    raise UserError(
      f'config.warmup_epochs = {config.warmup_epochs} takes {warmup_steps} '
      f'steps, and the run has {num_steps}; warm up for less, or train for '
      'longer'
    )
  if config.schedule == 'cosine':
    return optax.warmup_cosine_decay_schedule(
      init_value=0.0 if warmup_steps else peak,
      peak_value=peak,
      warmup_steps=warmup_steps,
      decay_steps=num_steps,
    )
  return optax.warmup_constant_schedule(
    init_value=0.0 if warmup_steps else peak,
    peak_value=peak,
    warmup_steps=warmup_steps,
  )


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
