"""Parts of a run that are given as objects, in place of those of the config."""

import dataclasses
from typing import Any

import ml_collections
import optax

from convmixer_jax.config import image_shape
from convmixer_jax.data import own_source, own_transform, sources
from convmixer_jax.errors import UserError
from convmixer_jax.models import own_modules
from convmixer_jax.models.from_object import config_of_object
from convmixer_jax.own_names import PREFIX, name_of, require_name, unwrap


@dataclasses.dataclass(frozen=True)
class OwnParts:
  """The arguments of `train_and_evaluate`, as they were given; None for none.

  Attributes:
    train_source: images to train on.
    eval_source: images to evaluate on.
    model: a network.
    train_transform: an augmentation function.
    optimizer: an optax optimizer.
  """

  train_source: Any = None
  eval_source: Any = None
  model: Any = None
  train_transform: Any = None
  optimizer: Any = None

  def names(self) -> dict[str, str]:
    """Returns what stands for the parts that have no content to compare.

    Raises:
      UserError: one has no name.
    """
    return {
      argument: require_name(getattr(self, argument), argument)
      for argument in ('train_transform', 'optimizer')
      if getattr(self, argument) is not None
    }

  def apply_to(
    self, config: ml_collections.ConfigDict
  ) -> ml_collections.ConfigDict:
    """Returns the config, with the network and the data set that are given.

    Raises:
      UserError: a part cannot be used.
    """
    check_optimizer(self.optimizer, config)
    if self.model is None and self.eval_source is None:
      return config
    config = config.copy_and_resolve_references()
    with config.unlocked():
      if self.eval_source is not None:
        kind = type(unwrap(self.eval_source)).__name__
        name = name_of(self.eval_source) or kind
        config.dataset.name = f'{PREFIX}{name}'
      if self.model is not None:
        config.model = config_of_object(
          self.model, config.dtype, image_shape(config.dataset)
        )
    return config

  def open_sources(
    self, dataset: ml_collections.ConfigDict
  ) -> tuple[sources.Source, sources.Source]:
    """Returns the sources to train and to evaluate on.

    Args:
      dataset: `config.dataset` as it was given, before `apply_to`.

    Raises:
      UserError: one cannot be used, or they have other classes.
    """
    opened: list[sources.Source] = []
    for argument in ('train_source', 'eval_source'):
      split = dataset[argument.replace('source', 'split')]
      source = getattr(self, argument)
      if source is None:
        opened.append(sources.create_source(dataset, split))
      else:
        opened.append(own_source.OwnSource(source, argument, split, dataset))
    train, evaluated = opened
    if train.class_names != evaluated.class_names:
      raise UserError(
        'the sources to train and to evaluate on have other class_names: '
        f'{_difference(train.class_names, evaluated.class_names)}; give the '
        'same list'
      )
    return train, evaluated

  def check_against(
    self, source: sources.Source, config: ml_collections.ConfigDict
  ) -> None:
    """Checks the parts with the training data.

    Raises:
      UserError: the network has another number of classes, or the augmentation
        returns something else than images of the config's size.
    """
    if self.model is not None:
      own_modules.check_num_classes(unwrap(self.model), source.num_classes)
    if self.train_transform is not None:
      own_transform.check(unwrap(self.train_transform), source, config.dataset)


def check_optimizer(optimizer: Any, config: ml_collections.ConfigDict) -> None:
  """Raises UserError if it is not one of optax's, or the config has another."""
  if optimizer is None:
    return
  optimizer = unwrap(optimizer)
  if not isinstance(optimizer, optax.GradientTransformation):
    raise UserError(
      f'optimizer is a {type(optimizer).__name__}, not an '
      'optax.GradientTransformation; give one, such as optax.sgd(0.1)'
    )
  for key in ('backbone_lr_scale', 'layer_lr_decay'):
    if config[key] != 1:
      raise UserError(
        f'config.{key} = {config[key]} is not for an optimizer that is given; '
        'leave it at 1, and use optax.multi_transform'
      )


def _difference(ours, theirs):
  if len(ours) != len(theirs):
    return f'{len(ours)} and {len(theirs)} classes'
  number = next(k for k, name in enumerate(ours) if name != theirs[k])
  return f'class {number} is {ours[number]!r} and {theirs[number]!r}'
