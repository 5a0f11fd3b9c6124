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


class _SizeParser(flags.ArgumentParser):
  """Reads a side, or height and width."""

  syntactic_help = 'PIXELS, or HEIGHT,WIDTH'

  def parse(self, argument):
    sides = str(argument).strip('()').split(',')
    try:
      found = tuple(int(side) for side in sides)
    except ValueError:
      found = ()
    if len(found) not in (1, 2) or min(found) < 1:
      raise ValueError('give a side in pixels, or HEIGHT,WIDTH, such as 96,256')
    return found[0] if len(found) == 1 else found

  def flag_type(self):
    return 'size'


class _SizeSerializer(flags.ArgumentSerializer):
  """Writes what `_SizeParser` reads."""

  def serialize(self, value):
    return value if isinstance(value, str) else str(value).replace(' ', '')


SIZE = flags.DEFINE(
  _SizeParser(),
  'size',
  None,
  'side of the images in pixels, or HEIGHT,WIDTH, with the crop fraction of '
  'training, or the published one at the test size of released weights; '
  'default: as in training',
  serializer=_SizeSerializer(),
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

  return load(_SOURCE.value, model_flag.MODEL.value, ema=model_flag.EMA.value)
