"""What a run starts from: other people's weights, or those of another run."""

from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.config import height_width, num_channels
from convmixer_jax.data.class_names import find_outputs, readable
from convmixer_jax.data.identity import are_numbers
from convmixer_jax.data.known_sets import base_name
from convmixer_jax.errors import UserError
from convmixer_jax.models import architecture_of
from convmixer_jax.pretrained.adapt import adapt_params
from convmixer_jax.pretrained.load import load_for_config
from convmixer_jax.pretrained.trained_model import TrainedModel


def load_pretrained(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  class_names: Sequence[str],
) -> dict[str, Any]:
  """Returns what the network starts with instead of random numbers.

  Prints what it is, and whether the head is among it: not if it has other
  classes, by their names, if one network gives one class for an image and the
  other several, or with `config.new_head`. Classes in another order are matched
  by name.

  Args:
    config: the whole config; `init_from` is the source (see `pretrained.load`),
      '' for none.
    model: the network.
    class_names: of the training split.

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
  dataset = config.dataset
  channels = num_channels(dataset)
  params = dict(
    adapt_params(
      variables['params'],
      architecture,
      loaded.channels,
      channels,
      config.init_from,
    )
  )
  if architecture.resize:
    sizes = map(height_width, (loaded.image_size, dataset.image_size))
    params = dict(architecture.resize(params, model, *sizes))
  head, outputs = _match_head(
    loaded, class_names, dataset.name, dataset.multi_label
  )
  if config.new_head:
    head, outputs = 'config.new_head = True', None
  if outputs is None:
    del params[architecture.head]
    head = f'the head is initialised from random numbers ({head})'
  else:
    params[architecture.head] = jax.tree.map(
      lambda array: array[..., outputs], params[architecture.head]
    )
  if jax.process_index() == 0:
    print(f'Starting from {loaded.origin}; {head}')
    if loaded.channels != channels:
      print(
        f'Its first layer, for RGB, is adapted to {channels} '
        f'channel{"s"[: channels != 1]}; mean and std are those of '
        f'config.dataset, {tuple(dataset.mean)} and {tuple(dataset.std)}'
      )
    for key in ('mean', 'std') if loaded.channels == channels else ():
      theirs, ours = getattr(loaded, key), tuple(config.dataset[key])
      if key in loaded.assumed:
        print(
          f'Note: it does not contain the {key} of its images; config.dataset '
          f'has {ours}'
        )
      elif not np.allclose(theirs, ours, atol=1e-3):
        print(f'Note: its images had {key} {theirs}; config.dataset has {ours}')
  return {'params': params, 'batch_stats': variables.get('batch_stats', {})}


def _match_head(
  loaded: TrainedModel,
  class_names: Sequence[str],
  dataset: str,
  multi_label: bool = False,
) -> tuple[str, np.ndarray | None]:
  """Finds the output for each class by its name.

  Returns:
    What to say about the head, and `[num_classes]`, the output of each class;
    None if the classes are others.
  """
  known = loaded.class_names
  num_classes = len(class_names)
  if loaded.multi_label != multi_label:
    answer = 'any number of classes' if loaded.multi_label else 'one class'
    return f'it gives {answer} for an image', None
  if loaded.num_classes != num_classes:
    return f'{loaded.num_classes} classes there, {num_classes} here', None
  outputs = find_outputs(class_names if known is None else known, class_names)
  unknown = np.flatnonzero(outputs < 0)
  if known is None or are_numbers(known) or are_numbers(class_names):
    theirs = (loaded.data or {}).get('name')
    if theirs and theirs != base_name(dataset):
      return (
        f'it has the classes of {theirs}, not all of which have names',
        None,
      )
    return (
      'with its head; not all classes have names, so it cannot be checked that '
      'they are the same',
      np.arange(num_classes) if len(unknown) else outputs,
    )
  if len(unknown):
    name = readable(class_names)[unknown[0]]
    return f'it has other classes: {name!r} is not there', None
  if (outputs == np.arange(num_classes)).all():
    return 'with its head', outputs
  return 'with its head, in the order of the classes here', outputs


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
