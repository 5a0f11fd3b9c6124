"""The flag of commands that load weights: absl defines a name once."""

from absl import flags

MODEL = flags.DEFINE_string(
  'model',
  None,
  'what a file of weights does not contain of its network: a variant such as '
  '768_32 (see configs/imagenet.py), the activation, gelu or relu, fields such '
  'as heads=3, or what config.model.name was',
)
