"""The network, its training state and its jitted steps on a device mesh.

`loop.py` runs them; `planning/` compiles them for devices that are not there.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn
from jax.sharding import Mesh

from convmixer_jax import config as config_lib
from convmixer_jax.distributed import sharding
from convmixer_jax.models import architecture_of, check_network, create_model
from convmixer_jax.training import optimizer as optimizer_lib
from convmixer_jax.training import own_optimizer, steps
from convmixer_jax.training.batch_size import smallest_group
from convmixer_jax.training.random_kernels import draw_by_kernels
from convmixer_jax.training.schedules import create_schedule


@dataclasses.dataclass(frozen=True)
class Trainer:
  """Jitted functions, and the shapes of their state.

  Attributes:
    model: the network.
    state: shapes, dtypes and shardings of the `TrainState`.
    create_state: returns the state of step 0, given the pretrained variables
      that `steps.create_state` takes.
    train_step: `steps.make_train_step`, its state donated.
    eval_step: `steps.make_eval_step`.
  """

  model: nn.Module
  state: steps.TrainState
  create_state: Callable
  train_step: jax.stages.Wrapped
  eval_step: jax.stages.Wrapped


def create_trainer(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  *,
  num_classes: int,
  steps_per_epoch: int,
  optimizer: optax.GradientTransformation | None = None,
  schedule: optax.Schedule | None = None,
) -> Trainer:
  """Builds network, optimizer and steps as `config` says.

  Args:
    config: the whole config.
    mesh: the devices, from `sharding.create_mesh`.
    num_classes: outputs of the head, which the data set decides.
    steps_per_epoch: updates in an epoch, for the schedule.
    optimizer: of the user, in place of that of the config.
    schedule: learning rate of each update, in place of that of the config; not
      for an optimizer of the user.

  Raises:
    UserError: a field of `config.model` is out of range, a network of one's own
      lacks something that a run needs, or BatchNorm has one value a channel.
  """
  model = create_model(
    config.model, num_classes, config.dtype, config.dataset.image_size
  )
  check_network(config.model, model, config_lib.image_shape(config.dataset))
  architecture = architecture_of(model)
  if optimizer is None:
    if schedule is None:
      schedule = create_schedule(
        config,
        steps_per_epoch,
        config_lib.num_train_steps(config, steps_per_epoch),
      )
    optimizer = optimizer_lib.create_optimizer(config, schedule, architecture)
  else:
    own_optimizer.check(
      optimizer,
      jax.eval_shape(
        partial(steps.create_state, model, optax.identity(), config)
      ).params,
    )
  create_state = partial(steps.create_state, model, optimizer, config)
  shapes = jax.eval_shape(create_state)
  stacked = architecture.stacked
  # A frozen backbone is normalised by running statistics in training, too.
  if config.backbone_lr_scale and smallest_group(config) == 1:
    _check_normalization(model, shapes, config)
  replicated = sharding.replicated(mesh)
  # Statistics are replicated: if they were split by channels, the partitioner
  # would split activations in the same way.
  statistics = jax.tree.map(lambda _: replicated, shapes.batch_stats)
  state_sharding = sharding.state_sharding(mesh, shapes, stacked).replace(
    batch_stats=statistics
  )
  if shapes.ema:
    state_sharding.ema['batch_stats'] = statistics
  gather = sharding.Gather(mesh, stacked)
  gathering_model = model
  if stacked and mesh.shape['fsdp'] > 1:
    gathering_model = model.clone(gather=sharding.Gather(mesh))
  return Trainer(
    model=model,
    state=sharding.with_sharding(shapes, state_sharding),
    create_state=draw_by_kernels(
      jax.jit(create_state, out_shardings=state_sharding)
    ),
    train_step=jax.jit(
      steps.make_train_step(
        gathering_model,
        optimizer,
        schedule,
        config,
        gather,
        partial(sharding.split_batch, mesh=mesh),
        one_operation=(
          mesh.shape['fsdp'] == 1 and mesh.devices.flat[0].platform == 'cpu'
        ),
      ),
      donate_argnums=0,
      out_shardings=(state_sharding, replicated),
    ),
    eval_step=jax.jit(
      steps.make_eval_step(gathering_model, config, gather),
      out_shardings=replicated,
    ),
  )


def _check_normalization(model, state, config):
  """Traces a forward pass of training, in which BatchNorm checks its input."""
  shape = config_lib.image_shape(config.dataset)
  images = jnp.zeros((config.batch_size // config.accum_steps, *shape))

  def apply(variables):
    return model.apply(
      variables,
      images,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(0)},
    )

  jax.eval_shape(
    apply, {'params': state.params, 'batch_stats': state.batch_stats}
  )
