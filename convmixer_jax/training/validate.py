"""All checks of a config by itself, in the order in which they build up."""

import ml_collections

from convmixer_jax import config as config_lib
from convmixer_jax import models
from convmixer_jax.data.augment import transforms


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks a whole config, before data, devices or a directory are looked at.

  Raises:
    UserError: names the key, its value and what it may be.
  """
  config_lib.validate(config)
  models.validate(config.model)
  transforms.validate(config.augment)
