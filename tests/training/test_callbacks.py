"""When callbacks are called, and with what; and the ends of a run."""

import types

import pytest
from run_files import read_rows

from convmixer_jax.errors import UserError
from convmixer_jax.training import loop
from convmixer_jax.training.callbacks import Callback, CallbackList


class Recorder(Callback):
  def __init__(self):
    self.calls = []
    self.metrics = {}

  def on_start(self, run):
    self.calls.append(('start', run.first_step, run.num_steps))

  def on_step(self, step, metrics):
    self.calls.append(('step', step))
    self.metrics[step] = metrics

  def on_evaluation(self, step, metrics):
    self.calls.append(('evaluation', step))
    self.metrics['eval', step] = metrics

  def on_checkpoint(self, step, path):
    assert path.name == str(step) and (path / 'state').is_dir()
    self.calls.append(('checkpoint', step))

  def on_end(self, results):
    self.calls.append(('end', results))

  def of(self, kind):
    return [call[1] for call in self.calls if call[0] == kind]


def test_only_what_a_callback_overrides_is_needed():
  class Steps(Callback):
    def on_step(self, step, metrics):
      pass

  callbacks = CallbackList([Callback(), Steps()])
  assert callbacks.needs('on_step') and not callbacks.needs('on_checkpoint')
  assert not CallbackList([]).needs('on_step')


def test_callbacks_that_started_are_told_the_end_after_an_error():
  class Failing(Callback):
    def on_start(self, run):
      raise OSError('no server')

  first, last = Recorder(), Recorder()
  first.on_start = lambda run: None
  with (
    pytest.raises(OSError, match='no server'),
    CallbackList([first, Failing(), last]) as callbacks,
  ):
    callbacks.on_start(None)
  assert first.calls == [('end', None)] and last.calls == []


def test_all_callbacks_are_told_the_end_if_one_fails_then():
  class Failing(Recorder):
    def on_end(self, results):
      super().on_end(results)
      raise OSError('no server')

  failing, last = Failing(), Recorder()
  with (
    pytest.raises(OSError, match='no server'),
    CallbackList([failing, last]) as callbacks,
  ):
    callbacks.on_start(types.SimpleNamespace(first_step=0, num_steps=1))
  for callback in (failing, last):
    assert callback.calls == [('start', 0, 1), ('end', None)]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (Recorder(), r'callbacks is a Recorder, not a list'),
    (None, 'callbacks is a NoneType'),
    ([Recorder], r'callbacks\[0\] is the class Recorder'),
    ([Recorder(), print], r'callbacks\[1\] is a builtin'),
  ],
)
def test_what_is_no_list_of_callbacks_is_refused(given, message):
  with pytest.raises(UserError, match=message):
    CallbackList(given)


@pytest.mark.slow
def test_callback_that_fails_after_an_evaluation_loses_no_step(
  config, tmp_path
):
  class Stop(Callback):
    def on_evaluation(self, step, metrics):
      raise OSError('enough')

  config.num_steps, config.eval_every_epochs = 30, 1
  workdir = tmp_path / 'run'  # a path does as well as a string
  with pytest.raises(OSError, match='enough'):
    loop.train_and_evaluate(config, workdir, callbacks=[Stop()])
  assert [path.name for path in (workdir / 'checkpoints').iterdir()] == ['22']


@pytest.mark.slow
def test_callbacks_see_each_step_evaluation_and_checkpoint(
  config, tmp_path, capsys
):
  config.num_steps, config.checkpoint_every_steps = 25, 7  # an epoch is 22
  config.log_every_steps = 1
  workdir = str(tmp_path / 'run')
  seen = Recorder()
  results = loop.train_and_evaluate(config, workdir, callbacks=[seen])
  assert seen.calls[0] == ('start', 0, 25)
  assert seen.calls[-1] == ('end', results)
  assert seen.of('step') == list(range(1, 26))
  assert seen.of('evaluation') == [22, 25]
  assert seen.of('checkpoint') == [7, 14, 21, 22, 25]
  assert seen.metrics['eval', 25] == results
  for row in read_rows(workdir):
    metrics = seen.metrics[row['step']]
    assert metrics['train_loss'] == pytest.approx(row['train_loss'])
    assert metrics['learning_rate'] == pytest.approx(row['learning_rate'])

  # The run is complete: it is evaluated, and nothing is trained.
  capsys.readouterr()
  again = Recorder()
  assert loop.train_and_evaluate(config, workdir, callbacks=[again]) == results
  assert again.calls == [('start', 25, 25), ('end', results)]
  assert 'The run is complete: step 25 of 25.' in capsys.readouterr().out

  before = (tmp_path / 'run' / 'config.json').read_bytes()
  config.num_steps = 20
  with pytest.raises(UserError, match=r'is at step 25, and config\.num_step'):
    loop.train_and_evaluate(config, workdir)
  assert (tmp_path / 'run' / 'config.json').read_bytes() == before
