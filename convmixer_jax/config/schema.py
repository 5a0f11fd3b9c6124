"""Every key of the config, once: name, default, values, text.

All else follows from `SCHEMA`: the default config, its validation, which keys
a run may change when it resumes, and docs/configuration.md. The keys of
`config.model` are the network's: see `models.architecture.Field`.
"""

import ml_collections
from ml_collections import FieldReference

from convmixer_jax.config.data_keys import DATA_KEYS
from convmixer_jax.config.keys import Key
from convmixer_jax.config.optimizer_keys import OPTIMIZER_KEYS
from convmixer_jax.config.run_keys import RUN_KEYS

SCHEMA: dict[str, Key] = {
  key.name: key for key in (*RUN_KEYS, *OPTIMIZER_KEYS, *DATA_KEYS)
}


def default_config(
  model: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns a config with the default of each key.

  Args:
    model: `config.model`, from `models.model_config`.
  """
  config = ml_collections.ConfigDict({'model': model})
  for key in SCHEMA.values():
    *sections, leaf = key.name.split('.')
    section = config
    for name in sections:
      if name not in section:
        section[name] = ml_collections.ConfigDict()
      section = section[name]
    if key.name == 'dataset.image_size':  # a number or a pair
      section[leaf] = FieldReference(key.default, field_type=object)
    else:
      section[leaf] = key.default
  return config
