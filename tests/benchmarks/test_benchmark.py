"""The benchmark command: its help, and unknown benchmarks."""

import commands
import pytest

from convmixer_jax.cli.benchmark import COMMANDS

TOOL = ['convmixer_jax', 'benchmark']


def test_help_lists_the_benchmarks():
  done = commands.run([*TOOL, '--help'])
  assert (done.returncode, done.stderr) == (0, '')
  lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()[-3:]]
  assert [name for name, _ in lines] == list(COMMANDS)
  assert all(len(text) > 20 for _, text in lines)
  done = commands.run([*TOOL, '--help'], is_read=False)
  assert (done.returncode, done.stderr) == (141, '')


@pytest.mark.parametrize(
  ('name', 'own', 'of_another'),
  [
    ('device', '--quick', '--shapes'),
    ('input', '--folder', '--shapes'),
    ('model', '--shapes', '--folder'),
  ],
)
def test_help_of_a_benchmark_shows_its_own_flags(name, own, of_another):
  done = commands.run([*TOOL, name, '--help'])
  assert (done.returncode, done.stderr) == (0, '')
  lines = done.stdout.splitlines()
  shown = [
    line.split()[0].replace('[no]', '')
    for line in lines[lines.index('Flags:') + 1 :]
  ]
  assert {own, '--output', '--timm_python'} <= set(shown)
  assert not {of_another, '--verbosity', '--help'} & set(shown)


def test_unknown_benchmark_is_refused():
  for arguments, problem in (
    ([], 'no benchmark is given'),
    (['speed'], "there is no benchmark 'speed'"),
  ):
    done = commands.run([*TOOL, *arguments])
    assert (done.returncode, done.stdout, done.stderr) == (
      1,
      '',
      f'error: {problem}; there are device, input, model, and --help\n',
    )
