"""Cases of bad input, a command and its error; the tables are in bad_*.py."""

import pathlib
import pickle
import zipfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy
import tiny_sets
from etils import epath

from configs import digits
from convmixer_jax.checkpoints import workdir
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.training.tasks import ONE_CLASS

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
# Of 3 classes: width 4, depth 2, patch 2, kernel 3; it tells no activation.
WEIGHTS = str(FIXTURES / 'checkpoint_zip.pth.tar')
SMALL = ('--config.model.width=8', '--config.model.depth=1')
TINY = (
  '--config=configs/digits.py',
  '--config.dataset.name=tiny',
  '--config.dataset.data_dir=TMP/data',
  '--config.dataset.eval_split=train',
  '--config.batch_size=4',
)


class Case(NamedTuple):
  """A command, and what it must say.

  Attributes:
    name: of the case.
    arguments: of the command; TMP in them stands for the test's directory.
    message: the whole line after `error: `; TMP as above, and `...` for what
      a library says.
    set_up: is given the test's directory, to put things there.
  """

  name: str
  arguments: Sequence[str]
  message: str
  set_up: Callable[[pathlib.Path], object] = lambda tmp: None


def train(*flags, workdir='TMP/run'):
  return 'train.py', f'--workdir={workdir}', *flags


def on_digits(*flags, workdir='TMP/run'):
  return train('--config=configs/digits.py', *SMALL, *flags, workdir=workdir)


def tool(name, *arguments):
  return 'convmixer_jax', name, *arguments


def flag(name, value, message):
  """A value of the config that is given on the command line."""
  given = f'{name} = {value}'
  return Case(given, on_digits(f'--config.{name}={value}'), message)


def network(name, problem):
  """A network of the user's, in a module beside this file."""
  return Case(
    name,
    train('--config=configs/digits.py', f'--config.model.name={name}'),
    f'config.model.name = {name!r}: {problem}',
  )


def in_file(name, lines, message):
  """A value of the config that is set in a file of the user's."""

  def set_up(tmp):
    (tmp / 'mine.py').write_text(
      'from configs import default\n\n\ndef get_config():\n'
      '  config = default.get_config()\n'
      f'  {lines}\n'
      '  return config\n'
    )

  return Case(name, train('--config=TMP/mine.py'), message, set_up)


def data(name, message, records=None, flags=(), cut=None, **features):
  """A data set `tiny` of the user's; of the file `cut`, only a part is left."""

  def set_up(tmp):
    directory = tiny_sets.write_set(tmp / 'data', records, **features)
    if cut is not None:
      path = directory / cut
      path.write_bytes(path.read_bytes()[:100])

  return Case(name, train(*TINY, *SMALL, *flags), message, set_up)


def weights(name, file, content, message, flags=()):
  """A file of weights to start from: its bytes, or tensors by name."""

  def set_up(tmp):
    if isinstance(content, bytes):
      (tmp / file).write_bytes(content)
    else:
      safetensors.numpy.save_file(content, tmp / file)

  init_from = f'--config.init_from=TMP/{file}'
  return Case(name, on_digits(init_from, *flags), message, set_up)


def deep_png():
  return tiny_sets.encode(np.full((8, 8), 1000, np.uint16))


class _Code:
  """Would leave a file where nothing may be written, were it unpickled."""

  def __init__(self, tmp):
    self._tmp = tmp

  def __reduce__(self):
    return exec, (f'open({str(self._tmp / "trace")!r}, "w")',)


def pickle_with_code(tmp):
  return pickle.dumps({'state_dict': _Code(tmp)}, protocol=2)


def zip_with_code(tmp):
  with zipfile.ZipFile(tmp / 'x.pth', 'w') as archive:
    archive.writestr('archive/data.pkl', pickle_with_code(tmp))


def start_run(tmp, **changes):
  """Writes what a run of `on_digits()` writes at its start."""
  config = digits.get_config()
  config.model.width, config.model.depth = 8, 1
  config.update_from_flattened_dict(changes)
  workdir.describe_run(epath.Path(tmp / 'run'), config, None, '')
  return tmp / 'run'


def add_foreign_orbax(tmp):
  """Adds a checkpoint as Orbax's manager writes it for most programs."""
  with ocp.CheckpointManager(start_run(tmp) / 'checkpoints') as manager:
    manager.save(5, args=ocp.args.StandardSave({'model': np.ones(3)}))


def add_other_tree(tmp):
  """Adds a checkpoint in our layout, of another network's state."""
  checkpointer = Checkpointer(epath.Path(start_run(tmp)), keep=1)
  state = TrainState(jnp.int32(5), {'dense': jnp.ones(3)}, {}, ())
  checkpointer.save(state, Progress(ONE_CLASS.empty_window()))
  checkpointer.close()


def with_run(**files):
  """A set-up: a run of `on_digits()`, with files of other content."""

  def set_up(tmp):
    for name, content in files.items():
      (start_run(tmp) / name.replace('_', '.')).write_text(content)

  return set_up


HTML = b'<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n' * 9
