"""The flag of all tools that take weights; absl knows a name only once."""

from absl import flags

MODEL = flags.DEFINE_string(
  'model',
  None,
  'what network the weights are of, where they do not tell: a variant of '
  'configs/imagenet.py such as 768_32, its activation, gelu or relu, fields '
  'such as heads=3, or what config.model.name was',
)
