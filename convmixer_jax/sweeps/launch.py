"""Gives a process its cores, and a signal when its parent dies; runs it.

    python launch.py PARENT CORES COMMAND...

It is a program of its own, because Python code between fork and exec is not
safe in a process with threads, such as those of JAX.
"""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl


def main() -> None:
  """Replaces this process by the command, with what the arguments say.

  They are the number of the parent, the numbers of cores with commas between,
  or '' for all of them, and the command.
  """
  parent, cores, *command = sys.argv[1:]
  if cores:
    os.sched_setaffinity(0, set(map(int, cores.split(','))))
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != int(parent):  # which died before
      sys.exit(128 + signal.SIGTERM)
  os.execv(command[0], command)


if __name__ == '__main__':
  main()
