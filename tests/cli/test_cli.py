"""Commands in processes of their own; refusals are in test_bad_input.py."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def train(*arguments):
  return subprocess.run(
    [sys.executable, 'train.py', '--config=configs/nope.py', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_missing_config_is_refused_in_one_line():
  done = train()
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr.startswith('error: --config=configs/nope.py is not a file')
  assert done.stderr.count('\n') == 1


def test_debug_flag_prints_a_traceback():
  done = train('--debug')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError' in done.stderr


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc'
)
def test_program_re_executes_itself_with_malloc_settings():
  code = (
    'import os, sys\n'
    'from convmixer_jax.cli.allocator import tune_allocator\n'
    'tune_allocator()\n'
    'print(os.environ["GLIBC_TUNABLES"].split(":")[0], sys.argv)\n'
  )
  environment = dict(os.environ)
  for given, expected in {
    None: 'glibc.malloc.hugetlb=1',
    '': '',
    'glibc.malloc.check=1': 'glibc.malloc.check=1',
  }.items():
    environment.pop('GLIBC_TUNABLES', None)
    if given is not None:
      environment['GLIBC_TUNABLES'] = given
    done = subprocess.run(
      [sys.executable, '-c', code, 'a', '--b=c d'],
      cwd=ROOT,
      env=environment,
      capture_output=True,
      text=True,
      check=True,
    )
    assert done.stdout == f"{expected} ['-c', 'a', '--b=c d']\n"
