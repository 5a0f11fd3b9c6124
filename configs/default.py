"""ConvMixer-64/4 on scikit-learn's digits: each key with its default.

docs/configuration.md lists all keys. The other configs state only how they
differ. Any key can be set on the command line, as in
`--config.model.width=128`.
"""

import ml_collections

from convmixer_jax.config import default_config
from convmixer_jax.models import model_config


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  return default_config(model_config('convmixer'))
