"""Gives corrupted files to a reader; a process of its own, which may crash.

  python tests/support/fuzz_process.py READER,READER SEED COUNT RUN

Prints a JSON line before each case, and one at the end. A reader may return or
raise UserError with one line. What else ends the process, or is printed as
`wrong`: other exceptions, a case that takes a minute, memory above the limit,
and anything executed that a file asked for.
"""

import faulthandler
import json
import os
import pathlib
import resource
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests/support')]

import fuzz_readers  # noqa: E402
import numpy as np  # noqa: E402

from convmixer_jax.errors import UserError  # noqa: E402

SECONDS = 60  # of a case, on any machine
# What reading a file never does.
_EXECUTION = (
  *('os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn'),
  *('os.system', 'pty.spawn', 'socket.connect', 'subprocess.Popen'),
)
_executed = []


def _watch(event, arguments):
  del arguments
  if event in _EXECUTION:
    _executed.append(event)


def peak_mib():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main(name, seed, count, trained_run):
  """Reads `count` corrupted files; RUN is copied for readers of runs."""
  reader = fuzz_readers.READERS[name]
  with tempfile.TemporaryDirectory() as directory:
    read, cases = reader.set_up(pathlib.Path(directory), trained_run)
    for content in cases.values():
      read(content)  # imports what reading needs
    start = peak_mib()
    # Far above the limit, for the sake of the machine.
    most = int((start + reader.limit_mib) * 2**20) + 2**34
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    refused = 0
    for number in range(count):
      content = reader.corrupt(cases, np.random.default_rng((seed, number)))
      report(reader=name, case=number)
      faulthandler.dump_traceback_later(SECONDS, exit=True)
      wrong = None
      _executed.clear()
      try:
        read(content)
      except UserError as error:
        refused += 1
        if '\n' in str(error):
          wrong = f'several lines: {error}'
      except BaseException:
        wrong = traceback.format_exc()
      faulthandler.cancel_dump_traceback_later()
      if _executed:
        wrong = f'it executed {_executed}'
      used = peak_mib() - start
      if used > reader.limit_mib:
        wrong = f'it took {used:.0f} MiB, more than {reader.limit_mib}'
        start = peak_mib()
      if wrong:
        report(reader=name, case=number, wrong=wrong)
    report(reader=name, refused=refused)


def report(**values):
  print(json.dumps(values), flush=True)


if __name__ == '__main__':
  names, seed, count, run = sys.argv[1:]
  sys.addaudithook(_watch)
  for reader_name in names.split(','):
    main(reader_name, int(seed), int(count), run)
  os._exit(0)  # without any library's cleanup
