"""Kills a sweep and its runs at random; compares it with an undisturbed one.

    python scripts/sweep_torture.py --faults=20 --directory=DIR

The sweep is configs/sweeps/digits.py with a checkpoint every 5 steps. A fault
is SIGKILL or SIGTERM to the sweep, or to one of its runs. When a sweep has
ended before it had all faults, a new one gets the others. In the end, all rows
of each run's metrics.csv are compared, but for the speeds, and so is the table.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]

from run_files import read_rows  # noqa: E402

_SWEEP = """
import dataclasses

from configs.sweeps import digits


def get_sweep():
  grid = digits.get_sweep()
  overrides = {{**grid.overrides, 'checkpoint_every_steps': 5}}
  return dataclasses.replace(grid, overrides=overrides, seeds={seeds})
"""
FAULTS = {  # and how often
  ('sweep', signal.SIGKILL): 3,
  ('sweep', signal.SIGTERM): 1,
  ('run', signal.SIGKILL): 4,
  ('run', signal.SIGTERM): 2,
}
PREEMPTED = 75
_LONGEST_WAIT = 12  # seconds until a fault
_POLL = 0.05


class Sweep:
  """A sweep in a directory, which may be started again and again."""

  def __init__(self, directory, seeds):
    """Starts nothing yet.

    Args:
      directory: a new one.
      seeds: of the two rows.
    """
    directory.mkdir(parents=True)
    self.workdir, self._log = directory / 'runs', directory / 'log.txt'
    self._file = directory / 'sweep.py'
    self._file.write_text(_SWEEP.format(seeds=seeds))

  def start(self):
    """Returns the process of the sweep."""
    with self._log.open('a') as log:
      return subprocess.Popen(
        [sys.executable, '-m', 'convmixer_jax', 'sweep', '--jobs=2']
        + [f'--sweep={self._file}', f'--workdir={self.workdir}'],
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=log,
        stderr=log,
      )

  def finish(self):
    """Runs it to its end, which must be a good one."""
    status = self.start().wait()
    assert status == 0, f'{status}\n{self.output()}'

  def output(self):
    return self._log.read_text()

  def table(self):
    """Returns the table that the last start has printed."""
    lines = self.output().splitlines()
    first = max(i for i, line in enumerate(lines) if line.startswith('run  '))
    return [line for line in lines[first:] if line.startswith(('run', 'width'))]

  def rows(self):
    """Returns what each run has measured."""
    return {
      path.parent.name: read_rows(path.parent)
      for path in sorted(self.workdir.glob('*/metrics.csv'))
    }

  def run_ids(self):
    """Returns the numbers of the processes of the runs."""
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
      with contextlib.suppress(OSError):
        words = path.read_bytes().decode().split('\0')
        if 'train' in words and any(
          word.startswith(f'--workdir={self.workdir}/') for word in words
        ):
          found.append(int(path.parent.name))
    return found


def disturb(sweep, rng, faults, report=print):
  """Disturbs a sweep until it had all faults, or has ended.

  Returns:
    The faults that it had.
  """
  process, had = sweep.start(), 0
  while had < faults:
    give_up = time.monotonic() + rng.uniform(0.2, _LONGEST_WAIT)
    while time.monotonic() < give_up and process.poll() is None:
      time.sleep(_POLL)
    if process.poll() is not None:
      if process.returncode == 0:
        return had
      raise AssertionError(f'{process.returncode}\n{sweep.output()}')
    (kind, number), *_ = rng.choices(list(FAULTS), FAULTS.values())
    if kind == 'run':
      running = sweep.run_ids()
      if not running:
        continue
      with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(running), number)
        had += 1
        report(f'fault {had}: {number.name} to a run')
      continue
    process.send_signal(number)
    status = process.wait()
    if status == 0:
      return had
    had += 1
    report(f'fault {had}: {number.name} to the sweep')
    assert status in (-number, PREEMPTED), f'{status}\n{sweep.output()}'
    process = sweep.start()
  # Runs that lost the race for their directory are tried again by the sweep.
  status = process.wait()
  if status:
    assert '5 times without a new checkpoint' in sweep.output(), sweep.output()
    sweep.finish()
  return had


def torture(faults, seed, directory, seeds=(0, 1, 2)):
  """Returns the number of runs that differ from the undisturbed ones."""
  undisturbed = Sweep(directory / 'undisturbed', seeds)
  undisturbed.finish()
  print('undisturbed:', *undisturbed.table(), sep='\n', flush=True)
  rng, done, differences, compared = random.Random(seed), 0, 0, 0
  while done < faults:
    sweep = Sweep(directory / f'disturbed_{done}', seeds)
    done += disturb(sweep, rng, faults - done)
    expected, found = undisturbed.rows(), sweep.rows()
    assert expected.keys() == found.keys(), found.keys()
    compared += len(found)
    differences += sum(expected[name] != found[name] for name in expected)
    differences += sweep.table() != undisturbed.table()
    print('disturbed:', *sweep.table(), sep='\n', flush=True)
  print(f'faults: {done}, seed {seed}')
  print(f'runs compared: {compared}')
  print(f'differences: {differences}')
  return differences


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--faults', type=int, default=20, help='number of faults; default: 20'
  )
  parser.add_argument(
    '--seed', type=int, default=0, help='seed of the faults; default: 0'
  )
  parser.add_argument(
    '--directory',
    type=pathlib.Path,
    help='directory of the sweeps; default: a temporary one',
  )
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    directory = (arguments.directory or pathlib.Path(scratch)).resolve()
    differences = torture(arguments.faults, arguments.seed, directory)
  sys.exit(differences > 0)


if __name__ == '__main__':
  main()
