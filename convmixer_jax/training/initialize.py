"""What a run starts from: other people's weights, or those of another run."""

from typing import Any

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.errors import UserError
from convmixer_jax.models import architecture_of
from convmixer_jax.pretrained.load import load_for_config


def load_pretrained(
  config: ml_collections.ConfigDict, model: nn.Module
) -> dict[str, Any]:
  """Returns what the network starts with instead of random numbers.

  Prints what it is, and whether the head is among it: not if it has another
  number of classes, or with `config.new_head`.

  Args:
    config: the whole config; `init_from` is the source (see `pretrained.load`),
      '' for none.
    model: the network.

  Returns:
    `params` and `batch_stats`, trees of NumPy arrays, or {} for none.

  Raises:
    UserError: the source cannot be read, or is of another network.
  """
  if not config.init_from:
    return {}
  loaded = load_for_config(config.init_from, config.model)
  _check_network(loaded, config)
  architecture = architecture_of(model)
  variables = jax.tree.map(np.asarray, loaded.variables)
  params = dict(variables['params'])
  if architecture.resize:
    like = architecture.variable_shapes(model, config.dataset.image_size)
    params = dict(architecture.resize(params, like['params']))
  head = 'with its head'
  if config.new_head or loaded.num_classes != model.num_classes:
    del params[architecture.head]
    head = (
      f'the head is initialised from random numbers ({loaded.num_classes} '
      f'classes there, {model.num_classes} here)'
    )
  if jax.process_index() == 0:
    print(f'Starting from {loaded.origin}; {head}')
    for key in ('mean', 'std'):
      theirs, ours = getattr(loaded, key), tuple(config.dataset[key])
      if key in loaded.assumed:
        print(
          f'Note: it does not contain the {key} of its images; config.dataset '
          f'has {ours}'
        )
      elif not np.allclose(theirs, ours, atol=1e-3):
        print(f'Note: its images had {key} {theirs}; config.dataset has {ours}')
  return {'params': params, 'batch_stats': variables.get('batch_stats', {})}


def shard_pretrained(
  pretrained: dict[str, Any], state: TrainState
) -> dict[str, Any]:
  """Puts arrays onto the devices, split as those of the state are.

  Args:
    pretrained: from `load_pretrained`.
    state: shapes with their shardings, or arrays.
  """

  def put(array, like):
    return jax.make_array_from_callback(
      array.shape, like.sharding, array.__getitem__
    )

  sharded = {}
  for name, modules in pretrained.items():
    like = {module: getattr(state, name)[module] for module in modules}
    sharded[name] = jax.tree.map(put, modules, like)
  return sharded


def _check_network(loaded, config):
  """Raises UserError if the weights are not of `config.model`."""
  ours = dict(config.model)
  theirs = {'name': loaded.network, **loaded.network_fields()}
  if theirs['name'] == ours['name']:
    differing = {
      key: value for key, value in theirs.items() if value != ours[key]
    }
  else:
    differing = {'name': theirs['name']}
  if differing:
    found = ', '.join(
      f'config.model.{key} = {ours[key]!r} (there {value!r})'
      for key, value in differing.items()
    )
    flags = ' '.join(f'--config.model.{k}={v}' for k, v in differing.items())
    raise UserError(
      f'config.init_from = {config.init_from} is of another network: {found}; '
      f'give {flags}'
    )
