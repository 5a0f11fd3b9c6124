"""Commands whose standard output is closed."""

import os
import sys

import commands
import pytest
import tiny_sets
from bad_input import SMALL, TINY, WEIGHTS, train

from convmixer_jax.cli import output
from convmixer_jax.errors import UserError

NOTE = (
  'standard output cannot be written to (Broken pipe); the command continues '
  'without it'
)


@pytest.fixture
def stream(monkeypatch):
  """Returns what guards a file descriptor as stdout."""
  monkeypatch.setattr(output, '_keeps_going', False)
  opened = []

  def guard(descriptor):
    opened.append(open(descriptor, 'w'))  # noqa: SIM115
    monkeypatch.setattr(sys, 'stdout', opened[-1])
    monkeypatch.setattr(sys, 'stderr', sys.stderr)
    output.guard()
    return sys.stdout

  yield guard
  for file in opened:
    file.close()


def closed_pipe():
  reader, writer = os.pipe()
  os.close(reader)
  return writer


def closed_terminal():
  controller, terminal = os.openpty()
  os.close(controller)
  return terminal


def test_closed_pipe_ends_the_command_quietly(stream, capfd):
  guarded = stream(closed_pipe())
  with pytest.raises(SystemExit) as end:
    print('text', file=guarded, flush=True)
  assert end.value.code == 141
  assert capfd.readouterr().err == ''


@pytest.mark.skipif(
  not os.path.exists('/dev/full'), reason='the system has no /dev/full'
)
def test_full_disk_is_an_error(stream):
  guarded = stream(os.open('/dev/full', os.O_WRONLY))
  with pytest.raises(
    UserError, match=r'standard output .*No space left on dev'
  ):
    print('text', file=guarded, flush=True)


@pytest.mark.parametrize('make', [closed_pipe, closed_terminal])
def test_after_keep_going_a_closed_output_is_reported_once(stream, make, capfd):
  guarded = stream(make())
  output.keep_going()
  for _ in range(3):
    print('text', file=guarded, flush=True)
  output.finish()
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith('standard output cannot be written to (')


@pytest.mark.slow
def test_commands_with_unread_output_finish_their_files(tmp_path):
  tiny_sets.write_set(tmp_path / 'data')
  arguments = [
    text.replace('TMP', str(tmp_path))
    for text in (*train(*TINY, *SMALL), '--config.num_steps=2')
  ]
  done = commands.run(arguments, is_read=False)
  assert (done.returncode, commands.complaints(done)) == (0, [NOTE])
  assert (tmp_path / 'run' / 'checkpoints' / '2').is_dir()
  assert len((tmp_path / 'run' / 'metrics.csv').read_text().splitlines()) > 1

  source = f'--source={tmp_path}/run'
  evaluate = ['convmixer_jax', 'evaluate', source]
  done = commands.run(evaluate, is_read=False)
  assert (done.returncode, done.stderr) == (141, '')
  done = commands.run(
    [*evaluate, f'--output={tmp_path}/evaluation'], is_read=False
  )
  assert (done.returncode, commands.complaints(done)) == (0, [NOTE])
  assert (tmp_path / 'evaluation' / 'result.json').exists()
  picture = tmp_path / 'picture.png'
  picture.write_bytes(tiny_sets.encode(tiny_sets.noise()))
  predict = ['convmixer_jax', 'predict', str(picture), source]
  done = commands.run(predict, is_read=False)
  assert (done.returncode, done.stderr) == (141, '')


def test_file_is_written_with_unread_output(tmp_path):
  file = tmp_path / 'x.safetensors'
  convert = ['convmixer_jax', 'convert', WEIGHTS, str(file), '--model=gelu']
  done = commands.run(convert, is_read=False)
  assert done.returncode in (0, 141) and file.exists()


def test_streams_closed_before_the_start_are_replaced(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', None)  # as Python has them then
  monkeypatch.setattr(sys, 'stderr', None)
  output.guard()
  print('text', flush=True)
  print('text', file=sys.stderr, flush=True)
  for stream in (sys.stdout, sys.stderr):
    stream.close()
