"""Re-execution: only where a command of this package is the program."""

import os
import platform
import subprocess
import sys
import threading

import forks
import pytest

from convmixer_jax.cli import program

STARTED = [
  (['python', 'train.py', '--a'], ('script', 'train.py')),
  (['python', '-O', '-W', 'error', '-Xdev', 'a.py'], ('script', 'a.py')),
  (['python', '-m', 'convmixer_jax', 'predict'], ('module', 'convmixer_jax')),
  (['python', '-Im', 'convmixer_jax'], ('module', 'convmixer_jax')),
  (['python', '-mconvmixer_jax'], ('module', 'convmixer_jax')),
  (['python', '-m', 'pdb', 'train.py'], ('module', 'pdb')),
  (['python', '-m', 'cProfile', '-o', 'x', 'train.py'], ('module', 'cProfile')),
  (['python', '-m', 'ipykernel_launcher'], ('module', 'ipykernel_launcher')),
  (['python', '-c', 'text', 'train.py'], (None, '')),
  (['python', '-uc', 'text'], (None, '')),
  (['python', '-', 'train.py'], (None, '')),
  (['python', '--check-hash-based-pycs', 'always', 'a.py'], ('script', 'a.py')),
  (['python'], (None, '')),
  ([], (None, '')),
]


@pytest.mark.parametrize(('arguments', 'expected'), STARTED)
def test_what_an_interpreter_was_started_with(arguments, expected):
  assert program.started(arguments) == expected


@pytest.fixture
def module_is_program(monkeypatch):
  monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'convmixer_jax'])
  monkeypatch.setattr(threading, 'active_count', lambda: 1)
  monkeypatch.setattr(sys, 'gettrace', lambda: None)


def test_a_module_is_the_program_unless_something_else_runs(
  module_is_program, monkeypatch
):
  assert program.is_program()
  monkeypatch.setattr(threading, 'active_count', lambda: 2)
  assert not program.is_program()
  monkeypatch.setattr(threading, 'active_count', lambda: 1)
  monkeypatch.setattr(sys, 'gettrace', lambda: print)
  assert not program.is_program()


def test_a_script_that_runs_train_py_is_not_the_program(
  module_is_program, monkeypatch
):
  train = str(forks.ROOT / 'train.py')
  main = sys.modules['__main__']
  monkeypatch.setattr(main, '__file__', train, raising=False)  # by runpy
  monkeypatch.setattr(sys, 'orig_argv', ['python', '-O', train])
  assert program.is_program()
  monkeypatch.setattr(sys, 'orig_argv', ['python', __file__])
  assert not program.is_program()


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc'
)
def test_console_command_re_executes_itself_with_its_options(tmp_path):
  command = tmp_path / 'convmixer'
  command.write_text(
    'import os, sys\n'
    f'sys.path.insert(0, {str(forks.ROOT)!r})\n'
    'print("starts", flush=True)\n'
    'from convmixer_jax.cli.allocator import tune_allocator\n'
    'tune_allocator()\n'
    'print(os.environ.get("GLIBC_TUNABLES", "").split(":")[0])\n'
    'print(sys.argv[1:], sys.flags.optimize, sys.warnoptions)\n'
  )
  environment = dict(os.environ)
  for given, expected, starts in (
    (None, 'glibc.malloc.hugetlb=1', 2),
    ('', '', 1),
    ('glibc.malloc.check=1', 'glibc.malloc.check=1', 1),
  ):
    environment.pop('GLIBC_TUNABLES', None)
    if given is not None:
      environment['GLIBC_TUNABLES'] = given
    done = subprocess.run(
      [sys.executable, '-O', '-W', 'error', command, 'a', '--b=c d'],
      env=environment,
      capture_output=True,
      text=True,
      check=True,
    )
    assert done.stdout.splitlines() == [
      *['starts'] * starts,
      expected,
      "['a', '--b=c d'] 1 ['error']",
    ]


@pytest.mark.parametrize(
  ('argv', 'path', 'expected'),
  [
    (['python3', '-m', 'convmixer_jax', 'train'], [''], 'python3 -m'),
    (['.venv/bin/python', 'train.py'], [], '.venv/bin/python -m'),
    (['my python', 'train.py'], [], "'my python' -m"),
  ],
)
def test_commands_are_started_in_the_checkout_as_this_one_was(
  argv, path, expected, monkeypatch
):
  monkeypatch.chdir(forks.ROOT)
  monkeypatch.setattr(sys, 'orig_argv', argv)
  monkeypatch.setattr(sys, 'path', path)
  assert program.command_line() == f'{expected} convmixer_jax'


def test_commands_elsewhere_find_the_checkout_of_a_script(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(
    sys, 'orig_argv', ['python', str(forks.ROOT / 'train.py')]
  )
  configs = str(forks.ROOT / 'configs')  # of the config file
  monkeypatch.setattr(sys, 'path', [configs, str(forks.ROOT), '/usr/lib'])
  monkeypatch.delenv('PYTHONPATH', raising=False)
  line = f'PYTHONPATH={forks.ROOT} python -m convmixer_jax'
  assert program.command_line() == line
  monkeypatch.setenv('PYTHONPATH', '/my networks')
  line = f"PYTHONPATH='{forks.ROOT}:/my networks' python -m convmixer_jax"
  assert program.command_line() == line
  installed = [configs, str(forks.ROOT), str(forks.ROOT)]
  monkeypatch.setattr(sys, 'path', installed)
  assert program.command_line() == 'python -m convmixer_jax'
  monkeypatch.setenv('PYTHONPATH', str(forks.ROOT))  # maybe for it alone
  line = f'PYTHONPATH={forks.ROOT} python -m convmixer_jax'
  assert program.command_line() == line


def test_console_command_is_named_by_its_path_unless_it_is_found(
  tmp_path, monkeypatch
):
  command = tmp_path / 'convmixer'
  command.write_text('#!/bin/sh\n')
  command.chmod(0o755)
  monkeypatch.setattr(sys, 'orig_argv', ['python', str(command), 'train'])
  monkeypatch.setenv('PATH', str(tmp_path))
  assert program.command_line() == 'convmixer'
  monkeypatch.setenv('PATH', '/nowhere')
  assert program.command_line() == str(command)
