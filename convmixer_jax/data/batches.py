"""Iterates over batches, and ends the threads and processes that make them."""

import atexit
import contextlib
import gc
import signal
import weakref
from collections.abc import Iterator
from typing import Any

import grain
from grain._src.python.ipc import shared_memory_array

from convmixer_jax.errors import UserError

HostBatch = dict[str, Any]  # arrays, and lists of what stays on the host
_DIED = 'terminated unexpectedly with exit code'  # of Grain's RuntimeError


class Batches(Iterator[HostBatch]):
  """The batches of a Grain data set.

  Worker processes and threads end with the last batch, at `close`, or when
  Python exits; a process that exits before they do would wait for them forever.
  """
