"""The flags that the benchmarks share; absl wants each defined once."""

from absl import flags

TIMM_PYTHON = flags.DEFINE_string(
  'timm_python', None, 'the Python of an environment that has timm'
)
ROUNDS = flags.DEFINE_integer(
  'rounds',
  None,
  'turns of each: 10 of the input, 5 of the model',
  lower_bound=1,
)
OUTPUT = flags.DEFINE_string(
  'output', None, 'a file for the figures, JSON; of device: a new directory'
)
