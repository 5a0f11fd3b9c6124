"""Copies what says how runs went, without their weights: for results/.

  python scripts/keep_runs.py WORKDIR DIRECTORY

WORKDIR is that of a sweep, or holds runs. Of each run in it that is complete,
trials too, DIRECTORY gets config.json, data.json, labels.json and metrics.csv:
a few KB. `convmixer compare` and `convmixer_jax.load_runs` read them as they
read the runs themselves, and a sweep continues from a copy of DIRECTORY.
"""

import argparse
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from convmixer_jax.sweeps.grid import RECORDS, TRIALS  # noqa: E402
from convmixer_jax.sweeps.results import find_runs  # noqa: E402

FILES = ('config.json', 'data.json', 'labels.json', 'metrics.csv')
CHOSEN = 'chosen.json'


def keep(workdir: pathlib.Path, directory: pathlib.Path) -> int:
  """Copies the files of complete runs; returns how many runs there are."""
  count = 0
  for part in ('.', TRIALS):
    if not (workdir / part).is_dir():
      continue
    for run in find_runs([workdir / part]):
      if run.problem:
        continue
      copy = directory / part / run.path.name
      copy.mkdir(parents=True, exist_ok=True)
      for name in FILES:
        if (run.path / name).exists():
          shutil.copyfile(run.path / name, copy / name)
      count += 1
  if (workdir / RECORDS / CHOSEN).exists():
    (directory / RECORDS).mkdir(exist_ok=True)
    shutil.copyfile(workdir / RECORDS / CHOSEN, directory / RECORDS / CHOSEN)
  return count


def main() -> None:
  """Copies the runs that the command line names."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('directory', type=pathlib.Path)
  arguments = parser.parse_args()
  count = keep(arguments.workdir, arguments.directory)
  print(f'{count} runs in {arguments.directory}')


if __name__ == '__main__':
  main()
