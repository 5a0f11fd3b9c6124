"""Flags of a small run on digits, for tests of whole commands."""

FLAGS = (
  '--config=configs/digits.py',
  '--config.batch_size=64',  # an epoch has 22 steps
  '--config.model.width=8',
  '--config.model.depth=1',
  '--config.model.kernel_size=3',
)
# With draws that follow from the step.
WITH_MIXUP = (
  *FLAGS,
  '--config.mixup.mixup_alpha=0.5',
  '--config.mixup.group_size=8',
  '--config.input.num_threads=2',
)
