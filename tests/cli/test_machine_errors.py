"""What the machine refuses is one line."""

import errno
import os

import jax
import pytest

from convmixer_jax.cli import machine_errors


@pytest.mark.parametrize(
  ('error', 'advice'),
  [
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE), 'a'), 'ulimit -n'),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'b'), 'make room'),
    (OSError(errno.EROFS, os.strerror(errno.EROFS), 'c'), 'read-only'),
    (BlockingIOError(errno.EAGAIN, 'unavailable'), 'ulimit -u'),
    (RuntimeError("can't start new thread"), '--pids-limit'),
    (MemoryError(), 'more memory'),
    (FileNotFoundError(2, 'No usable temporary directory found'), 'TMPDIR'),
    (RuntimeError("Unable to initialize backend 'foo'"), 'JAX_PLATFORMS'),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 8 GiB'), 'batch size'),
  ],
)
def test_refusals_of_the_machine_say_what_helps(error, advice):
  line = machine_errors.describe(error)
  assert advice in line and '\n' not in line


@pytest.mark.parametrize(
  'error', [ValueError('x'), RuntimeError('x'), OSError(errno.EPIPE, 'x')]
)
def test_other_errors_keep_their_traceback(error):
  assert machine_errors.describe(error) is None
