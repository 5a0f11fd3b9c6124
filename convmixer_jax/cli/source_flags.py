"""The flags of tools that use a trained network; absl wants each only once.

--workdir=RUN takes that of a run, --weights=FILE one of somebody else.
"""

from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax.cli.model_flag import MODEL
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained import Trained

_WORKDIR = flags.DEFINE_string('workdir', None, 'of the run to take')
_STEP = flags.DEFINE_string(
  'step', None, "of the run: a checkpoint's, or 'best'; default: the newest"
)
_WEIGHTS = flags.DEFINE_string(
  'weights', None, 'hf://OWNER/NAME, a .safetensors or a .pth.tar file to take'
)
SIZE = flags.DEFINE_integer(
  'size',
  None,
  'side of the images in pixels, the crop fraction stays; default: as trained',
  lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'images at a time; changes no figure', lower_bound=1
)


def from_flags() -> 'Trained':
  """Opens what `--workdir` or `--weights` names.

  Raises:
    UserError: not exactly one is given, or it is not what it should be.
  """
  from convmixer_jax.pretrained import trained

  if (_WORKDIR.value is None) == (_WEIGHTS.value is None):
    given = 'both are given' if _WORKDIR.value else 'neither is given'
    raise UserError(
      f'--workdir=RUN or --weights=FILE says what network to take; {given}'
    )
  if _WORKDIR.value is not None:
    if MODEL.value is not None:
      raise UserError(
        f'--model={MODEL.value} is for --weights; a run knows its network'
      )
    return trained.from_run(_WORKDIR.value, _STEP.value)
  if _STEP.value is not None:
    raise UserError(f'--step={_STEP.value} is for --workdir; weights have none')
  return trained.from_weights(_WEIGHTS.value, MODEL.value)
