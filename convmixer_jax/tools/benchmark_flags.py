"""The flags that the benchmarks share; absl wants each defined once."""

from absl import flags

TIMM_PYTHON = flags.DEFINE_string(
  'timm_python', None, 'the Python of an environment that has timm'
)
ROUNDS = flags.DEFINE_integer('rounds', 10, 'turns of each', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'a file for the figures, JSON')
