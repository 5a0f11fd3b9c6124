"""The stage that trains on CIFAR-10 by `convmixer train`: data to accuracy."""

import io
import pathlib
import shutil
import tarfile
from typing import Any

import numpy as np
from PIL import Image

from convmixer_jax import config_files
from convmixer_jax.benchmarks.device.session import Output, Session
from convmixer_jax.benchmarks.machine import count_usable_cores
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.data.known_sets import NUM_EXAMPLES
from convmixer_jax.data.prepare.image_tar import prepare_image_tar

_NAME = 'cifar10_jpeg'  # unknown to TFDS
_ALL_IMAGES = {
  f'{split}: {count:,} images'
  for split, count in NUM_EXAMPLES['cifar10'].items()
}
_NETWORK = '256/8'
_ON_DEVICE = 'input.on_device'
_MAX_WORKERS, _OTHER_CORES = 12, 4
# Estimate for start, compilation, evaluations and end.
_OTHER_SECONDS = 35.0
_INPUT_SECONDS, _INPUT_TIME_LIMIT = 3.0, 40.0
_TRAIN_IMAGES = NUM_EXAMPLES['cifar10']['train']
_RESERVE = 0.1  # share of the time, in case training is slower than measured


def train_cifar10(session: Session) -> None:
  """Prepares the data, measures both kinds of input alone, and trains.

  It trains with the faster input.
  """
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
    # Threads share Python's lock and cannot make batches fast enough.
    workers = min(cores - _OTHER_CORES, _MAX_WORKERS)
    changes['input.num_workers'] = workers
  on_cpu = session.environment(JAX_PLATFORMS='cpu')
  _time_input(session, changes, on_cpu)
  _time_input(session, changes | {_ON_DEVICE: True}, session.environment())
  if _fastest_input(session).get('made_by') == 'devices':
    changes[_ON_DEVICE] = True
  _train(session, changes, data['about'])


def _time_input(session, changes, environment):
  """Times the batches of one kind, without training."""
  rows = session.rows
  made_by = 'devices' if changes.get(_ON_DEVICE) else 'host'
  request = {
    'config': changes | {'dataset.train_split': session.settings.cifar10_input},
    'seconds': _INPUT_SECONDS,
  }
  try:
    session.stream(
      session.jax_command('input_pass'),
      request,
      min(_INPUT_TIME_LIMIT, session.budget.left('cifar10') / 3),
      lambda row: rows.add('cifar10', **row),
      environment,
    )
  except TimeoutError as error:
    rows.add('cifar10', part='input alone', made_by=made_by, missing=str(error))
  except (OSError, ValueError) as error:
    rows.add('cifar10', part='input alone', made_by=made_by, failed=str(error))


def _fastest_input(session):
  """Returns the row of the fastest input, {} if none was timed."""
  passes = session.rows.select('cifar10', 'images', 'images_per_sec')
  return max(passes, key=lambda row: row['images_per_sec'], default={})


def _prepare(session: Session) -> dict[str, Any] | None:
  """Returns changes of the `config`, a description `about` the data, and more.

  None if no data were given.
  """
  if session.data_dir:
    about = 'CIFAR-10 as prepared in --data_dir'
    return {'config': {'dataset.data_dir': session.data_dir}, 'about': about}
  data_dir = session.scratch / 'data'
  if session.cifar10:
    path, about = session.cifar10, 'CIFAR-10 (JPEG re-encode)'
  elif session.settings.cifar10_images:
    path = str(session.scratch / 'made.tar')
    about = 'synthetic images, not CIFAR-10'
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
  """Writes images of ten classes, each with its own colour and noise."""
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
  """Returns the number of epochs that fit, from 1 to `epochs`."""
  steps = max((1 - _RESERVE) * seconds - _OTHER_SECONDS, 0.0)
  return min(max(int(steps * images_per_sec / images), 1), epochs)


def _train(session, changes, about):
  rows, epochs = session.rows, session.settings.cifar10_epochs
  seconds = session.budget.left('cifar10')
  if seconds < session.settings.min_seconds:
    rows.add('cifar10', part='training', missing='no time was left')
    return
  made = _fastest_input(session)
  steps = [
    row['images_per_sec']
    for row in rows.select('models', 'images_per_sec')
    if (row['network'], row['framework'], row['kind'])
    == (_NETWORK, 'this project', 'train')
  ]
  notes = []
  if made and session.platform != 'cpu':
    rate = min([made['images_per_sec'], *steps])
    fitting = fitting_epochs(epochs, _TRAIN_IMAGES, rate, seconds)
    if fitting < epochs:
      notes.append(
        f'{fitting} of {epochs} epochs, because {seconds:.0f} s were left, at '
        f'{rate:.0f} images/s'
      )
      epochs = fitting
  changes = changes | {'num_epochs': epochs}
  if session.platform != 'cpu':
    # Each evaluation starts the processes of the input again. The one after
    # half of the epochs remains if the time was estimated wrongly.
    changes['eval_every_epochs'] = -(-epochs // 2)
  workdir = session.scratch / 'cifar10'
  command = session.python(
    *('-m', 'convmixer_jax', 'train'),
    f'--config={config_files.find("cifar10")}',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in changes.items()),
  )
  environment = session.environment(
    PYTHONUNBUFFERED='1',
    # As for a user, but empty at the start, so that compilation counts.
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
  end = f'train {output.outcome}: {output.last_line}'
  if output.status is None:
    row['missing'] = end
  elif output.status != 0:
    row['failed'] = end
  rows.add('cifar10', **row, **_figures(workdir / 'metrics.csv', output))
  for name in ('metrics.csv', 'curves.png'):
    if (workdir / name).exists():
      shutil.copy(workdir / name, session.directory / f'cifar10_{name}')


def _figures(path: pathlib.Path, output: Output) -> dict[str, Any]:
  """Returns the accuracy, and the seconds by part of the run."""
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
  times = [time for time, text in output.lines if text.startswith('step ')]
  # The first output is the table of parameters.
  start_up = output.lines[0][0]
  until_first_report = times[0] if times else start_up
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
