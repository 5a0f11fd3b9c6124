"""The flags of the commands that use a trained network.

Shared by several commands: absl allows a flag to be defined only once.
"""

from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax.cli import model_flag
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained_model import TrainedModel

flags.adopt_module_key_flags(model_flag)  # so that --help shows it
_SOURCE = flags.DEFINE_string(
  'source',
  None,
  'trained network to load, a SOURCE (required)',
)
SIZE = flags.DEFINE_integer(
  'size',
  None,
  'side of the images in pixels, with the crop fraction of training; default: '
  'as in training',
  lower_bound=1,
)


def load_source() -> 'TrainedModel':
  """Loads what `--source` names.

  Raises:
    UserError: none is given, or see `pretrained.load.load`.
  """
  if _SOURCE.value is None:
    raise UserError(
      '--source is missing; give the network to load: --source=RUN, a run '
      'directory, --source=FILE of weights or --source=hf://OWNER/NAME'
    )

  from convmixer_jax.pretrained.load import load

  return load(_SOURCE.value, model_flag.MODEL.value)
