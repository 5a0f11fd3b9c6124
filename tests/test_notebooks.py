"""The notebook runs from top to bottom, and shows what is stored in it."""

import pathlib
import subprocess
import sys

import nbformat
import no_tensorflow
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / 'notebooks' / 'explore.ipynb'


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


def test_stored_outputs_have_pictures_and_no_warnings():
  text = NOTEBOOK.read_text()
  assert len(text) < 1_000_000
  stored = str(shown(NOTEBOOK))
  assert stored.count('image/png') == 8
  assert 'stderr' not in stored
  for word in ('/home/', '/tmp/', 'site-packages', 'Warning', 'WARNING'):
    assert word not in text


@pytest.mark.slow
def test_notebook_runs_and_shows_its_stored_outputs(tmp_path):
  environment = no_tensorflow.environment(tmp_path) | {
    # As the commands set it for themselves.
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
  }
  done = subprocess.run(
    [
      sys.executable,
      ROOT / 'scripts' / 'run_notebook.py',
      NOTEBOOK,
      tmp_path / 'run',
    ],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert shown(tmp_path / 'run') == shown(NOTEBOOK)
