"""Says which layers of a network the kernels for GPUs do not compute."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from flax import linen as nn

from convmixer_jax.config import image_shape
from convmixer_jax.kernels import named_layers
from convmixer_jax.models import architecture_of
from convmixer_jax.training.trainer import Trainer


def warn_of_layers_without_kernels(
  trainer: Trainer, config: ml_collections.ConfigDict
) -> None:
  """Logs a line for each reason for which layers are computed by XLA.

  Only where JAX has a GPU: elsewhere the network is not even traced.

  Args:
    trainer: of the run.
    config: the whole config.
  """
  if jax.default_backend() != 'gpu':
    return
  found = find_layers_without_kernels(trainer, config)
  depths = _stack_depths(trainer)
  for (backend, reason), layers in found.items():
    logging.warning(
      'the %s kernels do not compute %s: %s. XLA computes there, which may be '
      'several times slower.',
      backend,
      describe_layers(layers, depths),
      reason,
    )


def find_layers_without_kernels(
  trainer: Trainer, config: ml_collections.ConfigDict
) -> dict[named_layers.Reason, list[str]]:
  """Returns names of layers by backend and by the reason it is not used for.

  The kernels of a layer's gradient are for the same images as its own.

  Args:
    trainer: of the run.
    config: the whole config.
  """

  def name_module(call, arguments, keywords, context):
    with named_layers.in_layer('/'.join(context.module.path)):
      return call(*arguments, **keywords)

  def apply(variables, images):
    return trainer.model.apply(
      variables,
      images,
      train=bool(config.backbone_lr_scale),
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(0)},
    )

  state = trainer.state
  batch = config.batch_size // config.accum_steps
  images = jax.ShapeDtypeStruct(
    (batch, *image_shape(config.dataset)), jnp.float32
  )
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  with named_layers.collect() as found, nn.intercept_methods(name_module):
    jax.eval_shape(apply, variables, images)
  return found


def describe_layers(layers: Sequence[str], depths: Mapping[str, int]) -> str:
  """Returns names of layers, those that differ in a number together.

  Args:
    layers: such as 'blocks/depthwise' or 'blocks_3/depthwise'.
    depths: number of the blocks that a module is a stack of, by its name.
  """
  groups: dict[str, list[str]] = {}
  for name in layers:
    groups.setdefault(re.sub(r'\d+', '*', name), []).append(name)
  texts = []
  for names in groups.values():
    first, last = names[0] or 'a layer without a name', names[-1]
    depth = depths.get(first.split('/')[0])
    text = first if len(names) == 1 else f'{first} to {last}'
    if len(names) > 1:
      text += f' ({len(names)} layers)'
    elif depth:
      text += f' (all {depth} blocks)'
    texts.append(text)
  return ', '.join(texts)


def _stack_depths(trainer: Trainer) -> dict[str, Any]:
  params = trainer.state.params
  return {
    name: jax.tree.leaves(params[name])[0].shape[0]
    for name in architecture_of(trainer.model).stacked
    if name in params
  }
