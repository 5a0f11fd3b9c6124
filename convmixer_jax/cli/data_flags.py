"""The flag of the commands that read data sets.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  "directory of TFDS data sets, by default TFDS's own; of the data set folder, "
  'the directory of its images',
)
