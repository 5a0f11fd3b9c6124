"""The flag of the commands that read images.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  64,
  'images at a time; does not change the results',
  lower_bound=1,
)
