"""The files of a run's directory, and corrupted ones."""

import contextlib
import json
import pathlib
import shutil

from corruption import corrupt, corrupt_json
from etils import epath

import convmixer_jax
from configs import digits
from convmixer_jax.checkpoints import checksums, workdir
from convmixer_jax.errors import UserError


def set_up(directory, trained_run):
  run = directory / 'run'
  shutil.copytree(trained_run, run)
  names = ['config.json', 'labels.json', 'metrics.csv']

  def read(case):
    name, data = case
    with replaced(run / name, data):
      opened = convmixer_jax.load_run(str(run))
      assert all(isinstance(row['step'], int) for row in opened.metrics)
      if name == 'config.json':
        with contextlib.suppress(UserError):  # it is another run
          workdir.check_workdir(epath.Path(run), digits.get_config())
        return
      assert all(isinstance(k, str) for k in opened.class_names or ())

  return read, {name: (name, (run / name).read_bytes()) for name in names}


def set_up_checkpoint(directory, trained_run):
  run = directory / 'run'
  shutil.copytree(trained_run, run)
  checkpoints = run / 'checkpoints'
  first, *others = sorted(checkpoints.iterdir())
  for other in others:
    shutil.rmtree(other)

  def read(case):
    name, data = case
    with replaced(run / name, data):
      assert isinstance(checksums.find_damage(epath.Path(first)), str | None)
      loaded = convmixer_jax.load(str(run))
      assert loaded.step == int(first.name)

  names = [str(p.relative_to(run)) for p in first.rglob('*') if p.is_file()]
  return read, {
    name: (name, (run / name).read_bytes()) for name in [*names, 'config.json']
  }


class replaced:
  """A context in which a file has another content."""

  def __init__(self, path: pathlib.Path, data: bytes):
    self._path, self._data = path, data
    self._before = path.read_bytes()

  def __enter__(self):
    self._path.write_bytes(self._data)

  def __exit__(self, *_):
    self._path.write_bytes(self._before)


def corrupt_file(cases, rng):
  names = sorted(cases)
  name, data = cases[names[int(rng.integers(len(names)))]]
  if rng.random() < 0.6:
    try:
      value = json.loads(data)
    except ValueError:  # not JSON
      pass
    else:
      return name, corrupt_json(value, rng)
  return name, corrupt(data, rng)
