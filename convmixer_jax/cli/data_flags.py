"""The flag of all commands that read data sets: absl defines a name once."""

from absl import flags

DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "directory of TFDS data sets; default: TFDS's own"
)
