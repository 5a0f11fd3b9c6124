"""The flag of all tools that read data sets; absl knows a name only once."""

from absl import flags

DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "where TFDS keeps its sets; default: TFDS's own"
)
