"""Gives corrupted files to a reader; a process of its own, which may crash.

  python tests/support/fuzz_process.py READER SEED COUNT [RUN]

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
  if event in _EXECUTION and _executed is not None:
    _executed.append(event)


def peak_mib():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main(name, seed, count, *run):
  reader = fuzz_readers.READERS[name]
  with tempfile.TemporaryDirectory() as directory:
    directory = pathlib.Path(directory)
    read, cases = reader.set_up(directory, *run)
    for content in reader.warm_up(cases):
      read(content)  # imports what reading needs
    start = peak_mib()
    limit = int((start + reader.limit_mib) * 2**20) + 2**34
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.addaudithook(_watch)
    _executed.clear()
    refused = 0
    for number in range(count):
      rng = np.random.default_rng((seed, number))
      content = reader.corrupt(cases, rng)
      print(json.dumps({'case': number}), flush=True)
      faulthandler.dump_traceback_later(SECONDS, exit=True)
      wrong = None
      try:
        read(content)
      except UserError as error:
        refused += 1
        if '\n' in str(error):
          wrong = f'several lines: {error}'
      except BaseException:
        wrong = traceback.format_exc()
      faulthandler.cancel_dump_traceback_later()
      used = peak_mib() - start
      if used > reader.limit_mib:
        wrong = f'{used:.0f} MiB, more than {reader.limit_mib}'
      if _executed:
        wrong = f'it executed {_executed}'
        _executed.clear()
      if wrong:
        print(json.dumps({'wrong': wrong, 'case': number}), flush=True)
        if used > reader.limit_mib:
          break
    print(json.dumps({'refused': refused, 'mib': round(peak_mib() - start)}))
    sys.stdout.flush()


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
  os._exit(0)  # no library's cleanup
