"""Chooses the image and batch size that a config leaves to the data.

`config.dataset.image_size = 0` becomes the median of the shorter sides of the
training images, in whole patches of the network, at least 8 of them and at
most 224 pixels. `config.batch_size = 0` becomes the power of two that gives ten
updates or more in an epoch, from 8 to 64. A run that is resumed keeps what it
was started with.
"""

import jax
import ml_collections
import numpy as np
from etils import epath

from convmixer_jax.bucket_access import check_access
from convmixer_jax.checkpoints import workdir
from convmixer_jax.config import flatten
from convmixer_jax.data.decode import shorter_side
from convmixer_jax.data.sources import Source, open_source
from convmixer_jax.models import patch_size_of
from convmixer_jax.notes import note
from convmixer_jax.training.validate import validate

_SAMPLE = 64  # images that are looked at, evenly spread
_LEAST_PATCHES, _LARGEST = 8, 224
_STEPS_PER_EPOCH = 10
_BATCHES = (8, 64)
_KEYS = ('batch_size', 'dataset.image_size')


def complete(
  config: ml_collections.ConfigDict,
  directory: epath.Path | None = None,
  source: Source | None = None,
) -> ml_collections.ConfigDict:
  """Returns the config with the sizes that it leaves to the data.

  Args:
    config: the whole config.
    directory: the run directory, if there is one.
    source: the training split; None to open that of the config.

  Raises:
    UserError: the config is wrong but for these sizes, or the data cannot be
      opened.
  """
  if not isinstance(config, ml_collections.ConfigDict):
    return config
  values = flatten(config)
  left = [key for key in _KEYS if type(values.get(key)) is int]
  left = [key for key in left if values[key] == 0]
  if not left:
    return config
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(dict.fromkeys(left, 1))
  validate(config)
  recorded = _recorded(directory)
  if all(key in recorded for key in left):
    chosen = {key: recorded[key] for key in left}
  else:
    if source is None:
      source = open_source(config.dataset, config.dataset.train_split)
    sizes = {
      'batch_size': choose_batch_size(len(source), _unit(config)),
      'dataset.image_size': choose_image_size(
        source, patch_size_of(config.model)
      ),
    }
    chosen = {key: sizes[key] for key in left}
    found = ', '.join(f'config.{key} = {chosen[key]}' for key in left)
    if jax.process_index() == 0:
      note(f'{found}, by the {len(source):,} training images')
  with config.unlocked():
    config.update_from_flattened_dict(chosen)
  return config


def choose_image_size(source: Source, patch_size: int) -> int:
  """Returns the side in pixels of the images that a network should see.

  Args:
    source: the training split.
    patch_size: of the network.
  """
  sample = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))
  sides = [_shorter_side(source, int(index)) for index in sample]
  side = min(int(np.median(sides)), _LARGEST)
  return max(side // patch_size, _LEAST_PATCHES) * patch_size


def choose_batch_size(num_images: int, unit: int = 1) -> int:
  """Returns the images of an update.

  Args:
    num_images: of the training split.
    unit: which the batch is a multiple of.
  """
  least, most = _BATCHES
  wanted = max(num_images // _STEPS_PER_EPOCH, 1)
  batch = min(max(2 ** (wanted.bit_length() - 1), least), most)
  batch = min(batch, num_images)
  return max(batch // unit, 1) * unit


def _recorded(directory):
  """Returns the flattened config of the run in a directory, {} without."""
  if directory is None:
    return {}
  check_access(directory)
  if not (directory / 'config.json').exists():
    return {}
  return flatten(workdir.read_config(directory))


def _unit(config):
  return jax.device_count() * config.accum_steps


def _shorter_side(source, index):
  data, _ = source.stored_example(index)
  return shorter_side(data) or min(source[index]['image'].shape[:2])
