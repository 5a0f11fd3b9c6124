r"""Converts weights: timm's, the authors' and those of runs, into each other.

  python -m convmixer_jax convert SOURCE DEST [--model=NAME]

SOURCE is one of
  hf://OWNER/NAME[@REVISION]   of the Hugging Face hub, such as timm's
  FILE.safetensors             timm's names of tensors
  FILE.pth.tar, .pth, .pt      timm's names or the authors'
  WORKDIR                      of a run: its best checkpoint, else its newest
  WORKDIR/checkpoints/STEP     of a run: this one

DEST, which must not exist, is one of
  FILE.safetensors             timm loads it: timm.create_model(...,
                               checkpoint_path='FILE.safetensors')
  DIRECTORY                    like that of a run, with one checkpoint of Orbax,
                               DIRECTORY/checkpoints/0/state

Both are read by config.init_from.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import ml_collections
from absl import logging
from clu import parameter_overview
from etils import epath

from convmixer_jax import files
from convmixer_jax.checkpoints import workdir
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.cli.model_flag import MODEL
from convmixer_jax.errors import UserError
from convmixer_jax.models import find_architecture
from convmixer_jax.pretrained import weights
from convmixer_jax.training import initialize
from convmixer_jax.training.metrics import empty_window


def convert(source: str, dest: str, model: str | None = None) -> None:
  """Converts weights, and prints what they are.

  Args:
    source: see above.
    dest: see above.
    model: see `weights.load`.

  Raises:
    UserError: the source cannot be read, or the destination exists or cannot be
      written to.
  """
  path = files.absolute_path(dest)
  is_file = path.suffix == '.safetensors'
  if path.suffix in ('.pth', '.pt', '.tar', '.bin', '.npz'):
    raise UserError(
      f'{dest}: only FILE.safetensors or a directory can be written'
    )
  files.check_access(path.parent if is_file else path, writes=True)
  if path.exists():
    raise UserError(f'{dest} is there already; remove it, or choose another')
  loaded = initialize.load_weights(source, model)
  if is_file:
    weights.save(loaded, str(path))
  else:
    _save_run(loaded, path)
  network = ', '.join(f'{key} {value}' for key, value in loaded.model.items())
  print(f'{dest}: {network}, {loaded.num_classes} classes')


def _save_run(loaded: weights.Weights, path: epath.Path) -> None:
  """Writes what a run would leave that ended with these weights."""
  default_input = find_architecture(loaded.network).default_input
  known = {
    key: value
    for key in default_input
    if (value := getattr(loaded, key)) is not None
  }
  if assumed := sorted(default_input.keys() - known.keys()):
    logging.warning(
      'the weights do not tell %s; noted are those of ImageNet',
      ', '.join(assumed),
    )
  dataset = {**default_input, **known}
  config = ml_collections.ConfigDict(
    {
      'dtype': 'float32',
      'model': {'name': loaded.network, **loaded.model},
      'augment': {'eval_crop_fraction': dataset.pop('eval_crop_fraction')},
      'dataset': {'name': ''} | dataset,
    }
  )
  params = loaded.variables['params']
  overview = parameter_overview.get_parameter_overview(
    params, include_stats=False
  )
  workdir.describe_run(path, config, loaded.labels, overview)
  checkpointer = Checkpointer(path, keep=1)
  state = TrainState(jnp.int32(0), params, loaded.variables['batch_stats'], ())
  checkpointer.save(state, Progress(empty_window()))
  checkpointer.close()


def main(argv: Sequence[str]) -> None:
  """Converts what the command line names."""
  if len(argv) != 3:
    raise UserError(
      f'{len(argv) - 1} arguments are given, not SOURCE and DEST; such as: '
      'python -m convmixer_jax convert hf://timm/convmixer_768_32.in1k '
      'convmixer_768_32'
    )
  convert(argv[1], argv[2], MODEL.value)
