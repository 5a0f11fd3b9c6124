"""The network of a config that starts from the weights of a run."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from convmixer_jax import models
from convmixer_jax.checkpoints import workdir
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.source import RunSource, parse_source


def take_network(
  config: ml_collections.ConfigDict, given: Mapping[str, Any]
) -> list[str]:
  """Sets the network to that of the run in `config.init_from`, if it is a run.

  What it computes is that of the run. How it is trained stays that of the
  config, or the default if that has another network.

  Args:
    config: the whole config, before it is overridden.
    given: what overrides it, by key, as 'init_from'.

  Returns:
    The fields that it changed and that are not given, as 'width = 8'.
  """
  source = given.get('init_from', config.get('init_from'))
  if not source:
    return []
  try:
    found = parse_source(source)
    if not isinstance(found, RunSource):
      return []
    theirs = workdir.read_config(found.workdir).model
    architecture = models.find_architecture(theirs.name)
  except UserError:
    return []  # which training reports
  if given.get('model.name', theirs.name) != theirs.name:
    return []  # so it does this
  before = dict(config.get('model', {}))
  with config.unlocked():
    models.choose_network(config, theirs.name)
    for key in ('name', *architecture.names('network')):
      if key in theirs:
        config.model[key] = theirs[key]
  return [
    f'{key} = {value}'
    for key, value in config.model.items()
    if before.get(key) != value and f'model.{key}' not in given
  ]
