"""The flags of commands that use a trained network; absl accepts each once.

--source=RUN                  its best checkpoint, else its newest
--source=RUN@STEP             that checkpoint; also RUN@best, RUN@newest and
                              RUN/checkpoints/STEP
--source=FILE                 weights: .safetensors, .pth.tar, .pth, .pt, .bin
--source=hf://OWNER/NAME      a repository, with @REVISION if wanted
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
  'trained network to load: a run directory (RUN, of which the best checkpoint '
  'is loaded, or RUN@STEP, RUN@best, RUN@newest), a file of weights '
  '(.safetensors, .pth.tar, ...), or hf://OWNER/NAME[@REVISION]',
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


def loaded_line(trained: 'TrainedModel') -> str:
  """Returns the first line of each command's output: what was loaded."""
  from convmixer_jax.models import describe

  return f'Loaded {trained.origin}: {describe(trained.model)}'
