"""What a run starts from: other people's weights, or those of another run."""

import contextlib
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

from convmixer_jax import weights
from convmixer_jax.errors import UserError
from convmixer_jax.files import absolute_path, check_access
from convmixer_jax.models import ConvMixer
from convmixer_jax.runs import load_run
from convmixer_jax.training import checkpoint
from convmixer_jax.training.steps import TrainState

_SHAPE = ('width', 'depth', 'patch_size', 'kernel_size')


def load_weights(source: str, model: str | None = None) -> weights.Weights:
  """Loads weights from a run of ours, or as `weights.load` does.

  Args:
    source: a run's workdir, of which the checkpoint with the best held-out
      accuracy is taken, or without any, the newest; one checkpoint of it,
      `WORKDIR/checkpoints/STEP`; or what `weights.load` takes.
    model: see `weights.load`; a run knows its network.

  Raises:
    UserError: see `weights.load` and `load_run`.
  """
  place = _find_run(source)
  if place is None:
    return weights.load(source, model)
  if model is not None:
    raise UserError(
      f'{source} is a run, which knows its network; leave out {model!r}'
    )
  return _read_run(*place)


def load_start(
  config: ml_collections.ConfigDict, model: ConvMixer
) -> dict[str, Any]:
  """Returns what the network starts with instead of random numbers.

  Prints what it is, and whether the head is among it: not if it has another
  number of classes, or with `config.new_head`.

  Args:
    config: the whole config; `init_from` is the source, '' for none.
    model: the network.

  Returns:
    `params` and `batch_stats`, trees of NumPy arrays, or {} for none.

  Raises:
    UserError: the source cannot be read, or is of another network.
  """
  source = config.init_from
  if not source:
    return {}
  place = _find_run(source)
  loaded = weights.read(source) if place is None else _read_run(*place)
  _check_network(loaded, config)
  params = dict(loaded.variables['params'])
  head = 'with its head'
  if config.new_head or loaded.num_classes != model.num_classes:
    del params['head']
    head = (
      f'the head starts anew ({loaded.num_classes} classes there, '
      f'{model.num_classes} here)'
    )
  if jax.process_index() == 0:
    name = source if place is None else f'{source}, step {place[1]}'
    print(f'Starting from {name}; {head}')
    for key in ('mean', 'std'):
      theirs, ours = getattr(loaded, key), tuple(config.dataset[key])
      if theirs and not np.allclose(theirs, ours, atol=1e-3):
        print(f'Note: its images had {key} {theirs}; config.dataset has {ours}')
  return {'params': params, 'batch_stats': loaded.variables['batch_stats']}


def place_start(start: dict[str, Any], state: TrainState) -> dict[str, Any]:
  """Puts `start` onto the devices.

  Args:
    start: from `load_start`.
    state: shapes with their shardings, or arrays.
  """

  def put(array, like):
    return jax.make_array_from_callback(
      array.shape, like.sharding, array.__getitem__
    )

  placed = {}
  for name, modules in start.items():
    like = {module: getattr(state, name)[module] for module in modules}
    placed[name] = jax.tree.map(put, modules, like)
  return placed


def _find_run(source: str) -> tuple[epath.Path, int] | None:
  """Returns workdir and step, or None if `source` is no run."""
  if source.startswith('hf://'):
    return None
  path = absolute_path(source)
  check_access(path)
  if path.parent.name == 'checkpoints' and path.name.isdigit():
    return path.parent.parent, int(path.name)
  if not (path / 'checkpoints').is_dir():
    return None
  with contextlib.closing(checkpoint.CheckpointReader(path)) as reader:
    steps = reader.steps()
    if not steps:
      raise UserError(f'{source} has no checkpoint yet; let it train, or wait')
    best = reader.best_step()
  return path, steps[-1] if best is None else best


def _read_run(path, step):
  run = load_run(str(path))
  model, variables = run.restore(step)
  labels = run.class_names
  return weights.Weights(
    model={key: getattr(model, key) for key in (*_SHAPE, 'activation')},
    num_classes=model.num_classes,
    variables=jax.tree.map(np.asarray, variables),
    mean=run.config.dataset.mean,
    std=run.config.dataset.std,
    image_size=run.config.dataset.image_size,
    eval_crop_fraction=run.config.augment.eval_crop_fraction,
    labels=labels,
  )


def _check_network(loaded, config):
  """Raises UserError if the weights are not of `config.model`."""
  differing = {
    key: theirs
    for key, theirs in loaded.model.items()
    if theirs is not None and theirs != config.model[key]
  }
  if differing:
    found = ', '.join(
      f'config.model.{key} = {config.model[key]!r} (there {theirs!r})'
      for key, theirs in differing.items()
    )
    flags = ' '.join(f'--config.model.{k}={v}' for k, v in differing.items())
    raise UserError(
      f'config.init_from = {config.init_from} is of another network: {found}; '
      f'give {flags}'
    )
