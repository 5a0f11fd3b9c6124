"""The flags of the commands that load weights.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

MODEL = flags.DEFINE_string(
  'model',
  None,
  'completes a weights file that does not describe its network: a variant '
  '(768_32), a tag of released weights (resnet152.a1_in1k), an activation '
  '(gelu, relu), fields (heads=3), or a network (MODULE:ATTRIBUTE)',
)
EMA = flags.DEFINE_bool(
  'ema',
  None,
  'of a run with config.ema_decay, load the moving averages of the parameters, '
  'or with --noema the parameters themselves; default: what the run evaluates',
)
