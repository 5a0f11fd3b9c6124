"""The command line: wrong input ends with one line and status 1."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def train(*arguments, workdir):
  return subprocess.run(
    [sys.executable, 'train.py', f'--workdir={workdir}', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'flag --config=None: Flag --config must have a value'),
    (['--config=configs/nope.py'], 'configs/nope.py is no file'),
    (['--config=convmixer_jax/errors.py'], 'errors.py defines no get_config'),
    (['--config=configs/digits.py:x'], 'configs/digits.py has no variants'),
    (['--config=configs/imagenet.py:x'], "no variant 'x'; there are 1536_20"),
    (
      ['--config=configs/digits.py', '--config.model.widht=9'],
      'no such key in configs/digits.py; did you mean --config.model.width?',
    ),
    (
      ['--config=configs/digits.py', '--config.batch_size=many'],
      '--config.batch_size=many is not a whole number, such as 128',
    ),
    (['--config=configs/digits.py', '--confg=1'], "command line flag 'confg'"),
    (
      ['--config=configs/digits.py', '--config.schedule=step'],
      "config.schedule = 'step' is not one of paper, cosine, constant",
    ),
  ],
)
def test_wrong_input(arguments, message, tmp_path):
  done = train(*arguments, workdir=tmp_path / 'run')
  assert done.returncode == 1
  assert done.stdout == ''
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ') and message in line
  assert not (tmp_path / 'run').exists()


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc'
)
def test_a_program_is_started_anew_with_other_settings():
  code = (
    'import os, sys\n'
    'from convmixer_jax.tools.allocator import tune_allocator\n'
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


def test_debug_shows_where(tmp_path):
  done = train(
    '--config=configs/digits.py',
    '--config.schedule=step',
    '--debug',
    workdir=tmp_path / 'run',
  )
  assert done.returncode == 1
  assert 'Traceback' in done.stderr and 'UserError' in done.stderr
