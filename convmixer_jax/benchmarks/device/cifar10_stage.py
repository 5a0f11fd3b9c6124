"""The stage that trains on CIFAR-10 with `train.py`, everything included."""

import io
import pathlib
import shutil
import tarfile
from typing import Any

import numpy as np
from PIL import Image

from convmixer_jax.benchmarks.device.session import ROOT, Output, Session
from convmixer_jax.benchmarks.machine import count_usable_cores
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.data.prepare.image_tar import prepare_image_tar

_NAME = 'cifar10_jpeg'  # a name that TFDS does not know
_ALL_IMAGES = {'train: 50,000 images', 'test: 10,000 images'}
_NETWORK = '256/8'
_MOST_WORKERS, _OTHER_CORES = 12, 4
# Of start, compilation, evaluations and end, in a guess of what fits.
_OTHER_SECONDS = 45.0
_SECONDS_OF_INPUT, _SECONDS_FOR_INPUT = 3.0, 40.0
_TRAIN_IMAGES = 50_000
_RESERVE = 0.1  # of the time, for a rate that is lower than was measured


def train_cifar10(session: Session) -> None:
  """Prepares the data, measures the input alone, and trains."""
  rows = session.rows
  changes = dict(session.settings.cifar10)
  data = _prepare(session)
  if data is None:
    reason = 'no data; give --cifar10=FILE.tar.xz or --data_dir=DIRECTORY'
    rows.add('cifar10', missing=reason)
    return
  changes |= data.pop('config')
  rows.add('cifar10', part='data', **data)
  cores = count_usable_cores()
  if session.platform != 'cpu' and cores > _OTHER_CORES:
    # Threads would share Python's lock; the device takes all they can make.
    workers = min(cores - _OTHER_CORES, _MOST_WORKERS)
    changes['input.num_workers'] = workers
  on_cpu = session.environment(JAX_PLATFORMS='cpu')
  request = {
    'config': changes | {'dataset.train_split': session.settings.cifar10_input},
    'seconds': _SECONDS_OF_INPUT,
  }
  command = session.jax_command('input_pass')
  try:
    session.stream(
      command,
      request,
      min(_SECONDS_FOR_INPUT, session.budget.left('cifar10') / 2),
      lambda row: rows.add('cifar10', **row),
      on_cpu,
    )
  except TimeoutError as error:
    rows.add('cifar10', part='input alone', missing=str(error))
  except (OSError, ValueError) as error:
    rows.add('cifar10', part='input alone', failed=str(error))
  _train(session, changes, data['about'])


def _prepare(session: Session) -> dict[str, Any] | None:
  """Returns the config's `config.dataset`, and what the data are."""
  if session.data_dir:
    about = 'CIFAR-10 as prepared in --data_dir'
    return {'config': {'dataset.data_dir': session.data_dir}, 'about': about}
  data_dir = session.scratch / 'data'
  if session.cifar10:
    path, about = session.cifar10, 'CIFAR-10 (JPEG re-encode)'
  elif session.settings.cifar10_images:
    path, about = str(session.scratch / 'made.tar'), 'made images, no CIFAR-10'
    _make_tar(path, session.settings.cifar10_images)
  else:
    return None
  start = session.budget.used()
  contents = prepare_image_tar(path, data_dir, _NAME)
  if session.cifar10 and set(contents.split(', ')) != _ALL_IMAGES:
    about = (
      f'images of {pathlib.Path(path).name}, which are not all of CIFAR-10'
    )
  return {
    'config': {'dataset.name': _NAME, 'dataset.data_dir': str(data_dir)},
    'about': about,
    'contents': contents,
    'prepare_seconds': session.budget.used() - start,
  }


def _make_tar(path, count):
  """Writes images of ten classes, each of a colour of its own, with noise."""
  rng = np.random.default_rng(0)
  with tarfile.open(path, 'w') as tar:
    for label in range(10):
      colour = rng.integers(40, 216, 3)
      for number in range(count):
        pixels = colour + rng.normal(0, 20, (32, 32, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        stream = io.BytesIO()
        image.save(stream, 'JPEG')
        split = 'test' if number % 5 == 4 else 'train'
        info = tarfile.TarInfo(f'{split}/{label}/{number:04d}.jpg')
        info.size = stream.tell()
        stream.seek(0)
        tar.addfile(info, stream)


def fitting_epochs(
  epochs: int, images: int, images_per_sec: float, seconds: float
) -> int:
  """Returns how many epochs fit, one at least and `epochs` at most."""
  steps = max((1 - _RESERVE) * seconds - _OTHER_SECONDS, 0.0)
  return min(max(int(steps * images_per_sec / images), 1), epochs)


def _train(session, changes, about):
  rows, epochs = session.rows, session.settings.cifar10_epochs
  seconds = session.budget.left('cifar10')
  if seconds < session.settings.least_seconds:
    rows.add('cifar10', part='training', missing='no time was left')
    return
  passes = rows.of('cifar10', 'images', 'images_per_sec')
  steps = [
    row['images_per_sec']
    for row in rows.of('models', 'images_per_sec')
    if (row['network'], row['contender'], row['kind'])
    == (_NETWORK, 'this project', 'train')
  ]
  notes = []
  if passes and session.platform != 'cpu':
    rate = min([passes[-1]['images_per_sec'], *steps])
    fitting = fitting_epochs(epochs, _TRAIN_IMAGES, rate, seconds)
    if fitting < epochs:
      notes.append(
        f'{fitting} of {epochs} epochs, for {seconds:.0f} s were left, at '
        f'{rate:.0f} images/s'
      )
      epochs = fitting
  changes = changes | {'num_epochs': epochs}
  if session.platform != 'cpu':
    # Each starts the processes of the input again. The one at half is what is
    # left if the time for all of the epochs was estimated wrongly.
    changes['eval_every_epochs'] = -(-epochs // 2)
  workdir = session.scratch / 'cifar10'
  command = session.python(
    str(ROOT / 'train.py'),
    f'--config={ROOT / "configs" / "cifar10.py"}',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in changes.items()),
  )
  environment = session.environment(
    PYTHONUNBUFFERED='1',
    # As a user has it, but empty at first: compiling is to count.
    JAX_ENABLE_COMPILATION_CACHE='true',
    JAX_COMPILATION_CACHE_DIR=str(session.scratch / 'compiled'),
  )
  output = session.run(command, seconds, environment)
  row = {
    'part': 'training',
    'data': about,
    'epochs': epochs,
    'changes': {k: v for k, v in changes.items() if k != 'dataset.data_dir'},
    'total_seconds': output.seconds,
    'ended': output.status == 0,
  }
  if notes:
    row['note'] = '; '.join(notes)
  end = f'train.py {output.outcome}: {output.last_line}'
  if output.status is None:
    row['missing'] = end
  elif output.status != 0:
    row['failed'] = end
  rows.add('cifar10', **row, **_figures(workdir / 'metrics.csv', output))
  for name in ('metrics.csv', 'curves.png'):
    if (workdir / name).exists():
      shutil.copy(workdir / name, session.directory / f'cifar10_{name}')


def _figures(path: pathlib.Path, output: Output) -> dict[str, Any]:
  """Returns the accuracy, and where the seconds went."""
  table = list(read_table(path).values()) if path.exists() else []
  reports = [row for row in table if 'steps_per_sec' in row]
  evaluations = [row for row in table if 'eval_accuracy' in row]
  figures: dict[str, Any] = {}
  if evaluations:
    last = evaluations[-1]
    figures['eval_accuracy'] = last['eval_accuracy']
    figures['eval_loss'] = last['eval_loss']
    figures['evaluated_at_step'] = last['step']
  if not reports:
    return figures
  finite = all(np.isfinite(row['train_loss']) for row in reports)
  ends = [row['step'] for row in reports]
  seconds = [
    (end - start) / row['steps_per_sec']
    for start, end, row in zip([0, *ends], ends, reports, strict=False)
  ]
  shown = [at for at, text in output.lines if text.startswith('step ')]
  # The first thing that it prints is the table of parameters.
  start_up = output.lines[0][0]
  until_first_report = shown[0] if shown else start_up
  parts = {
    'start-up': start_up,
    'compiling': max(until_first_report - start_up - seconds[0], 0.0),
    'steps': sum(seconds),
  }
  parts['evaluation, checkpoints, end'] = max(
    output.seconds - sum(parts.values()), 0.0
  )
  rate = sorted(row['images_per_sec'] for row in reports)[len(reports) // 2]
  return figures | {
    'finite': finite,
    'steps': ends[-1],
    'images_per_sec': rate,
    'seconds': parts,
  }
