"""The config of a run of a sweep: a base, overrides, and all checks of it."""

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from convmixer_jax import config as config_lib
from convmixer_jax import config_files, models
from convmixer_jax.analysis import flops
from convmixer_jax.checkpoints.workdir import config_from_json, config_to_json
from convmixer_jax.config import SCHEMA, num_channels
from convmixer_jax.data import sources
from convmixer_jax.data.known_sets import NUM_CLASSES, NUM_EXAMPLES
from convmixer_jax.errors import UserError, one_line
from convmixer_jax.pretrained.run_network import take_network
from convmixer_jax.sweeps.grid import Grid
from convmixer_jax.training import from_data
from convmixer_jax.training.validate import validate

_FOLDER = 'sweeps'  # of configs/


class DataSize(NamedTuple):
  """Numbers of training images and of classes."""

  num_examples: int
  num_classes: int


class NetworkSize(NamedTuple):
  """Numbers of parameters, and of MACs for an image."""

  parameters: int
  macs: int


def load_sweep(value: str) -> list[Grid]:
  """Returns the grids of a file of a sweep.

  Args:
    value: of `--sweep`: a file, or the name of one in configs/sweeps; and
      perhaps :VARIANT, an argument of its `get_sweep`.

  Raises:
    UserError: there is no such file, or it fails.
  """
  path, _, variant = config_files.find(value, _FOLDER).partition(':')
  if not os.path.isfile(path):
    raise UserError(
      f'--sweep={path} is not a file; give the path of one, or the name of one '
      f'that comes with the package: {", ".join(config_files.names(_FOLDER))}'
    )
  grids = config_files.call(
    path,
    variant,
    function='get_sweep',
    flag='--sweep',
    needed='to return a convmixer_jax.sweeps.Grid or a list of them',
  )
  is_list = isinstance(grids, Sequence) and not isinstance(grids, str)
  return list(grids) if is_list else [grids]


def build_config(
  base: str, overrides: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns a config that is checked by itself.

  Args:
    base: as for `--config`.
    overrides: values by dotted key; `model.name` chooses the network first.

  Raises:
    UserError: there is no such file or key, or a value is not valid.
  """
  config = copy.deepcopy(_load_base(base))
  with config.unlocked():
    if 'model.name' in overrides:
      models.choose_network(config, overrides['model.name'])
    take_network(config, overrides)
    for key, value in overrides.items():
      if key != 'model.name':
        _set(config, key, value)
  config = from_data.complete(config)
  validate(config)
  return config


def _set(config, key, value):
  known = config_lib.flatten(config)
  if key not in known:
    network = known.get('model.name', models.DEFAULT)
    field = key.removeprefix('model.')
    if field != key and models.is_field_of_another(field, network):
      raise UserError(
        f'config.{key} is not a field of {models.list_fields(network)}'
      )
    raise UserError(
      f'config.{key} is not a key of the config; did you mean '
      f'config.{config_lib.nearest(str(key), known)}?'
    )
  value = tuple(value) if isinstance(value, list) else value
  try:
    config.update_from_flattened_dict({key: value})
  except (TypeError, ValueError) as error:
    kind = config_lib.describe_kind(known[key])
    raise UserError(f'config.{key} = {value!r} is not {kind}') from error


@functools.cache
def _load_base(base):
  path, _, variant = config_files.find(base).partition(':')
  if not os.path.isfile(path):
    raise UserError(
      f'the config {base!r} of the sweep is not a file; give the path of one, '
      'or the name of one that comes with the package: '
      f'{", ".join(config_files.names())}'
    )
  config = config_files.call(path, variant, flag='config')
  if not isinstance(config, ml_collections.ConfigDict):
    raise UserError(
      f'get_config() of {path} returns a {type(config).__name__}; return a '
      'ConfigDict, such as convmixer_jax.config.default_config()'
    )
  return config


def normalize(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the flattened config as it is read back from a config.json."""
  return config_lib.flatten(config_from_json(config_to_json(config)))


def changed_keys(
  recorded: ml_collections.ConfigDict, planned: ml_collections.ConfigDict
) -> list[str]:
  """Returns the keys whose other values make a run another experiment.

  That are the keys that a run must not change when it resumes, and its length,
  by which the learning rate falls.

  Args:
    recorded: config that a run was started with.
    planned: config that the sweep has for it.
  """
  old, new = config_lib.flatten(recorded), normalize(planned)
  free = set(models.free_keys(planned.model))
  of_length = [
    key.name
    for key in SCHEMA.values()
    if key.changes and old.get(key.name, key.default) != new[key.name]
  ]
  return sorted({*config_lib.changed_keys(old, new, free), *of_length})


def data_size(
  config: ml_collections.ConfigDict, *, is_needed: bool = True
) -> DataSize:
  """Returns the size of the training split; opens both splits.

  Args:
    config: the whole config.
    is_needed: whether a well-known set that is not prepared is an error.

  Raises:
    UserError: the data cannot be opened.
  """
  return _data_size(config.dataset.to_json_best_effort(), is_needed)


@functools.cache
def _data_size(dataset_json, is_needed):
  dataset = config_from_json(dataset_json)
  name, split = dataset.name, dataset.train_split
  try:
    source = sources.open_source(dataset, split)
    sources.require_classes(source)
    sources.open_source(dataset, dataset.eval_split)
  except UserError:
    if is_needed or split != 'train' or name not in NUM_CLASSES:
      raise
    return DataSize(NUM_EXAMPLES[name][split], NUM_CLASSES[name])
  return DataSize(len(source), source.num_classes)


def network_size(
  config: ml_collections.ConfigDict, num_classes: int
) -> NetworkSize:
  """Returns the size of the network, which is traced but not computed.

  Args:
    config: the whole config.
    num_classes: outputs of the head.

  Raises:
    UserError: the network cannot be built for these images.
  """
  return _network_size(
    config.model.to_json_best_effort(),
    config.dtype,
    config.dataset.image_size,
    num_channels(config.dataset),
    num_classes,
  )


@functools.cache
def _network_size(model_json, dtype, image_size, channels, num_classes):
  try:
    model = models.create_model(
      config_from_json(model_json), num_classes, dtype, image_size
    )
    return NetworkSize(
      flops.count_parameters(model, image_size, channels),
      flops.count_forward(model, image_size, channels=channels).total,
    )
  except UserError:
    raise
  except Exception as error:  # any, of the network or JAX
    raise UserError(
      f'the network cannot be built ({one_line(error)}); correct config.model'
    ) from error
