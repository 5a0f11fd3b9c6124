r"""Converts weights: timm's, the authors' and those of runs, into each other.

  python -m convmixer_jax convert SOURCE DEST [--model=NAME]

DEST, which must not exist, is one of
  FILE.safetensors             timm loads it: timm.create_model(...,
                               checkpoint_path='FILE.safetensors')
  DIRECTORY                    like that of a run, with one checkpoint of Orbax,
                               DIRECTORY/checkpoints/0/state

Both can be a SOURCE again, also of evaluate, predict, export and
config.init_from. A PyTorch file has timm's names of tensors or the authors'.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.cli.model_flag import EMA, MODEL
from convmixer_jax.errors import UserError
from convmixer_jax.locks.directory_lock import DirectoryLock, is_of_lock

if TYPE_CHECKING:
  from etils import epath

  from convmixer_jax.pretrained.trained_model import TrainedModel


def convert(
  source: str, dest: str, model: str | None = None, ema: bool | None = None
) -> None:
  """Converts weights, and prints what they are.

  Args:
    source: see `pretrained.load.load`.
    dest: see above.
    model: see `pretrained.load.load`.
    ema: see `pretrained.load.load`.

  Raises:
    UserError: the source cannot be read, or the destination exists or cannot be
      written to.
  """
  from convmixer_jax.pretrained import weight_files
  from convmixer_jax.pretrained.load import load

  path = files.absolute_path(dest)
  is_file = path.suffix == '.safetensors'
  if path.suffix in ('.pth', '.pt', '.tar', '.bin', '.npz'):
    raise UserError(
      f'{dest}: only FILE.safetensors or a directory can be written'
    )
  check_access(path.parent if is_file else path, writes=True)
  if path.exists():
    raise _is_there(dest)
  trained = load(source, model, ema=ema)
  if is_file:
    weight_files.save(trained, str(path))
  else:
    with DirectoryLock(path, 'DEST'):
      if any(not is_of_lock(name) for name in files.list_files(path)):
        raise _is_there(dest)  # by now
      _save_run(trained, path)
  fields = trained.network_fields()
  network = ', '.join(f'{key} {value}' for key, value in fields.items())
  print(trained.loaded_line)
  print(f'{dest}: {network}, {trained.num_classes} classes')


def _save_run(trained: 'TrainedModel', path: 'epath.Path') -> None:
  """Writes the directory of a run that ended with these weights."""
  import jax
  import jax.numpy as jnp
  import ml_collections
  import numpy as np
  from clu import parameter_overview

  from convmixer_jax.checkpoints import workdir
  from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
  from convmixer_jax.checkpoints.train_state import TrainState
  from convmixer_jax.pretrained import thresholds
  from convmixer_jax.training.tasks import task_of

  is_known = 'class_names' not in trained.assumed
  class_names = trained.class_names if is_known else None
  config = ml_collections.ConfigDict(
    {
      'dtype': 'float32',
      'model': {'name': trained.network, **trained.network_fields()},
      'augment': {
        'eval_crop_fraction': trained.eval_crop_fraction,
        'eval_interpolation': trained.eval_interpolation,
        'eval_image_size': trained.eval_image_size or 0,
        **({'test_input': trained.test_input} if trained.test_input else {}),
      },
      'dataset': {
        'name': '',
        'image_size': trained.image_size,
        'mean': trained.mean,
        'std': trained.std,
        **({'multi_label': True} if trained.multi_label else {}),
      },
    }
  )
  variables = jax.tree.map(np.asarray, trained.variables)
  params = variables['params']
  overview = parameter_overview.get_parameter_overview(
    params, include_stats=False
  )
  workdir.describe_run(path, config, class_names, overview, trained.data)
  if trained.thresholds is not None:
    thresholds.write(
      path,
      0,
      thresholds.Thresholds(trained.thresholds, trained.thresholds_from),
    )
  checkpointer = Checkpointer(path, keep=1)
  state = TrainState(jnp.int32(0), params, variables['batch_stats'], ())
  checkpointer.save(state, Progress(task_of(config).empty_window()))
  checkpointer.close()


def _is_there(dest):
  return UserError(f'{dest} is there already; remove it, or choose another')


def main(argv: Sequence[str]) -> None:
  """Converts what the command line names."""
  if len(argv) != 3:
    raise UserError(
      f'{len(argv) - 1} arguments are given, not SOURCE and DEST; such as: '
      'python -m convmixer_jax convert hf://timm/convmixer_768_32.in1k '
      'convmixer_768_32'
    )
  convert(argv[1], argv[2], MODEL.value, EMA.value)
