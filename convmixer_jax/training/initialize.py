"""What a run starts from: other people's weights, or those of another run."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from etils import epath
from flax import linen as nn

from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.errors import UserError
from convmixer_jax.files import absolute_path, check_access
from convmixer_jax.models import DEFAULT, architecture_of, find_architecture
from convmixer_jax.pretrained import weights
from convmixer_jax.pretrained.runs import load_run


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
  config: ml_collections.ConfigDict, model: nn.Module
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
  if place is None:
    loaded = weights.read(source, config.model.get('name', DEFAULT))
  else:
    loaded = _read_run(*place)
  _check_network(loaded, config)
  architecture = architecture_of(model)
  params = dict(loaded.variables['params'])
  if architecture.resize:
    size = config.dataset.image_size
    image = jnp.zeros((1, size, size, 3))
    like = jax.eval_shape(
      lambda: model.init(jax.random.key(0), image, train=False)
    )
    params = dict(architecture.resize(params, like['params']))
  head = 'with its head'
  if config.new_head or loaded.num_classes != model.num_classes:
    del params[architecture.head]
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
  stats = loaded.variables.get('batch_stats', {})
  return {'params': params, 'batch_stats': stats}


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
  with contextlib.closing(CheckpointReader(path)) as reader:
    steps = reader.steps()
    if not steps:
      raise UserError(f'{source} has no checkpoint yet; let it train, or wait')
    best = reader.best_step()
  return path, steps[-1] if best is None else best


def _read_run(path, step):
  run = load_run(str(path))
  model, variables = run.restore(step)
  labels = run.class_names
  name = run.saved_network()
  return weights.Weights(
    network=name,
    model=find_architecture(name).network_fields(model),
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
  ours = {'name': DEFAULT, **config.model}
  theirs = {'name': loaded.network, **loaded.model}
  if theirs['name'] == ours['name']:
    differing = {
      key: value
      for key, value in theirs.items()
      if value is not None and value != ours[key]
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
