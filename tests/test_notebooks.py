"""The notebooks run from top to bottom, and show what is stored in them."""

import pathlib
import subprocess
import sys

import nbformat
import no_tensorflow
import pytest

ROOT = pathlib.Path(__file__).parents[1]
# With the number of pictures in each.
NOTEBOOKS = {
  'explore.ipynb': 8,
  'patches.ipynb': 3,
  'train_own_images.ipynb': 3,
}


def is_of_a_slow_machine(text):
  """Whether a text is but Orbax's warning that saving takes long."""
  lines = text.splitlines()
  return bool(lines) and all(
    'Waiting for previous save' in line for line in lines
  )


def shown(path):
  """Returns what each cell shows: nothing, text, a picture, a complaint."""
  return [
    [
      output.get('name') or sorted(output['data'])
      for output in cell.get('outputs', ())
      if not is_of_a_slow_machine(output.get('text', ''))
    ]
    for cell in nbformat.read(path, as_version=4).cells
  ]


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_stored_outputs_have_pictures_and_no_warnings(name):
  path = ROOT / 'notebooks' / name
  text = path.read_text()
  assert len(text) < 1_000_000
  stored = str(shown(path))
  assert stored.count('image/png') == NOTEBOOKS[name]
  assert 'stderr' not in stored
  for word in ('/home/', '/tmp/', 'site-packages', 'Warning', 'WARNING'):
    assert word not in text


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_first_cell_installs_in_colab_alone(name, monkeypatch, tmp_path):
  cells = nbformat.read(ROOT / 'notebooks' / name, as_version=4).cells
  assert f'/blob/main/notebooks/{name})' in cells[0].source
  first = next(cell.source for cell in cells if cell.cell_type == 'code')
  calls = []
  monkeypatch.setattr(
    subprocess, 'run', lambda command, check: calls.append(command)
  )
  monkeypatch.chdir(tmp_path)
  exec(first, {})
  assert calls == []
  monkeypatch.setitem(sys.modules, 'google.colab', object())
  exec(first, {})
  clone, install = calls
  assert clone[:2] == ['git', 'clone'] and install[-1] == './convmixer-jax'
  assert 'pip' in install


@pytest.mark.slow
@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebook_runs_and_shows_its_stored_outputs(name, tmp_path):
  path = ROOT / 'notebooks' / name
  environment = no_tensorflow.environment(tmp_path) | {
    # As the commands set it for themselves.
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
  }
  done = subprocess.run(
    [
      sys.executable,
      ROOT / 'scripts' / 'run_notebook.py',
      path,
      tmp_path / 'run',
    ],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert shown(tmp_path / 'run') == shown(path)
