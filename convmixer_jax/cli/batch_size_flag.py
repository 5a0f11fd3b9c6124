"""The flag of commands that read images: absl defines a name once."""

from absl import flags

BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  64,
  'images at a time; does not change the results',
  lower_bound=1,
)
