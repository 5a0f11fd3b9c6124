"""Counts images and classes, even of data sets that are not prepared here."""

import ml_collections

from convmixer_jax.data import builders, sources
from convmixer_jax.data.known_sets import NUM_CLASSES, NUM_EXAMPLES
from convmixer_jax.errors import UserError


def data_size(
  config: ml_collections.ConfigDict,
  num_examples: int | None = None,
  num_classes: int | None = None,
) -> tuple[int, int]:
  """Returns the numbers of training images and of classes.

  Args:
    config: `config.dataset`.
    num_examples: overrides what is found.
    num_classes: None to count them, too.

  Raises:
    UserError: the set is neither known nor prepared, and the numbers were not
      given.
  """
  if not (num_examples and num_classes):
    found = _find(config)
    num_examples = num_examples or found[0]
    num_classes = num_classes or found[1]
  return num_examples, num_classes


def _find(config):
  name, split = config.name, config.train_split
  if name in ('digits', sources.FOLDER) or name.startswith(
    sources.HUGGING_FACE
  ):
    return _count(config)
  known = None
  if split == 'train' and name in NUM_CLASSES:
    known = NUM_EXAMPLES[name][split], NUM_CLASSES[name]
  if known and not config.data_dir:
    return known
  builder = builders.find_builder(name, config.data_dir)
  if builders.is_prepared(builder):
    return _count(config)
  if known:
    return known
  raise UserError(
    f'data set {name!r}, split {split!r}, is not prepared in '
    f'{builder.data_path.parent}; give --num_examples and --num_classes'
  )


def _count(config):
  """Returns the numbers of a set that can be opened."""
  source = sources.open_source(config, config.train_split)
  sources.require_classes(source)
  return len(source), source.num_classes
