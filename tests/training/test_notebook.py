"""Training in a notebook: its bar, and the interrupt of the kernel."""

import json
import pathlib
import sys
import types

import nbclient
import nbformat
import pytest
import tqdm

from convmixer_jax.errors import Interrupted, Preempted
from convmixer_jax.training import notebook_bar, report

ROOT = pathlib.Path(__file__).parents[2]

TRAIN = """
import os, signal, sys
sys.path.insert(0, {root!r})
import convmixer_jax
from configs import digits

config = digits.get_config()
config.batch_size, config.num_steps, config.model.width = 64, 12, 8
config.model.depth, config.model.kernel_size = 1, 3
config.input.num_threads = 2
before = signal.getsignal(signal.SIGINT), os.getpid()

class InterruptAt5(convmixer_jax.Callback):
  def on_step(self, step, metrics):
    if step == 5:
      os.kill(os.getpid(), signal.SIGINT)  # as the kernel's interrupt does
"""
INTERRUPTED = """
callbacks = [InterruptAt5()]
convmixer_jax.train_and_evaluate(config, {workdir!r}, callbacks=callbacks)
"""
AGAIN = """
assert (signal.getsignal(signal.SIGINT), os.getpid()) == before
results = convmixer_jax.train_and_evaluate(config, {workdir!r})
print('accuracy', results['eval_accuracy'])
"""


@pytest.mark.slow
def test_interrupt_of_the_kernel_saves_and_the_next_cell_resumes(tmp_path):
  workdir = str(tmp_path / 'run')
  cells = [
    nbformat.v4.new_code_cell(
      cell.format(root=str(ROOT), workdir=workdir).strip()
    )
    for cell in (TRAIN, INTERRUPTED, AGAIN)
  ]
  notebook = nbformat.v4.new_notebook(cells=cells)
  nbclient.NotebookClient(
    notebook, timeout=600, allow_errors=True, coalesce_streams=True
  ).execute()
  _, interrupted, again = notebook.cells
  assert notebook.cells[0].outputs == []
  (error,) = [
    output for output in interrupted.outputs if output.output_type == 'error'
  ]
  assert error.ename == 'Interrupted'
  (line,) = error.traceback
  assert line.startswith('stopped by SIGINT: step ') and 'is saved in' in line
  assert line.endswith('and the same call resumes from there')
  shown = json.dumps(again.outputs)
  assert 'Resuming from step ' in shown and 'accuracy 0.' in shown
  assert 'Error' not in shown


@pytest.fixture
def kernel(monkeypatch):
  """The kernel of a notebook, for what asks IPython for it."""
  shell = types.SimpleNamespace(kernel=object())
  module = types.SimpleNamespace(get_ipython=lambda: shell)
  monkeypatch.setitem(sys.modules, 'IPython', module)
  return shell


def test_bar_of_a_notebook_without_widgets_is_text(kernel, monkeypatch, capsys):
  monkeypatch.setattr(
    notebook_bar.importlib.util, 'find_spec', lambda name: None
  )
  bar = report.make_bar(10, 4)
  assert not bar.disable and (bar.n, bar.total) == (4, 10)
  bar.update()
  bar.close()
  assert '5/10' in capsys.readouterr().out


def test_bar_of_a_notebook_with_widgets_is_one(kernel):
  pytest.importorskip('ipywidgets')
  import tqdm.notebook

  assert isinstance(report.make_bar(10, 4), tqdm.notebook.tqdm)


def test_bar_is_off_where_there_is_neither_notebook_nor_terminal(capsys):
  assert not notebook_bar.in_notebook()
  bar = report.make_bar(10, 4)
  assert bar.disable and isinstance(bar, tqdm.tqdm)


def test_interrupt_is_a_preemption_and_a_keyboard_interrupt():
  assert issubclass(Interrupted, (Preempted, KeyboardInterrupt))
  assert Interrupted('one line')._render_traceback_() == ['one line']
