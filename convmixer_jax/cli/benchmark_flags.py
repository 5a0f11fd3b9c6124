"""The flags of the benchmarks.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

TIMM_PYTHON = flags.DEFINE_string(
  'timm_python', None, 'path of the Python of an environment that has timm'
)
ROUNDS = flags.DEFINE_integer(
  'rounds',
  None,
  'rounds to measure; default: 10 of input, 5 of model',
  lower_bound=1,
)
OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'a JSON file to write the figures to; for device: a new directory',
)
