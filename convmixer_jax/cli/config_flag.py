"""The flag of the commands that take a config.

Shared by several commands: absl allows a flag to be defined only once.
"""

from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'config file, such as configs/digits.py; add :VARIANT to choose a variant',
)
