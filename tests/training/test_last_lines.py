"""The last lines of a run, and that the commands in them work."""

import os
import pathlib
import shlex
import shutil

import commands
import pytest
from PIL import Image

from configs import default
from convmixer_jax.training.ending import describe_end

TABLE = """step,epoch,train_loss,eval_accuracy
11,1.0,2.5,0.5
22,2.0,2.0,0.75
33,3.0,1.5,0.75
44,4.0,1.5,nan
55,5.0,1.0,0.625
60,5.455,0.5,
"""


@pytest.fixture
def config():
  return default.get_config()


def end_of(config, workdir, command='convmixer'):
  lines = describe_end(config, str(workdir), command).splitlines()
  assert all(len(line) > 11 and line[10] == ' ' for line in lines)
  return [line[:11].strip() for line in lines], [line[11:] for line in lines]


def test_best_and_last_accuracy_are_given_with_their_steps(config, tmp_path):
  (tmp_path / 'metrics.csv').write_text(TABLE)
  titles, texts = end_of(config, tmp_path)
  assert titles == ['Best', 'Last', 'Files', 'Next', *[''] * 4]
  assert texts[:3] == [
    'eval_accuracy 0.7500 at step 33, epoch 3',
    'eval_accuracy 0.6250 at step 55, epoch 5',
    f'in {tmp_path}: metrics.csv',
  ]


def test_run_without_a_table_has_files_and_commands(config, tmp_path):
  assert end_of(config, tmp_path)[0] == ['Files', 'Next', *[''] * 4]


def test_paths_are_relative_below_the_working_directory_and_quoted(
  config, tmp_path, monkeypatch
):
  run = tmp_path / "it's a run"
  run.mkdir()
  monkeypatch.chdir(tmp_path)
  _, (_, evaluate, *_, longer, _) = end_of(config, run)
  assert shlex.split(evaluate)[2] == "--source=it's a run"
  assert shlex.split(longer)[2] == "--workdir=it's a run"
  assert longer.endswith(' --config.num_epochs=40')
  monkeypatch.chdir(run)
  _, (_, evaluate, *_) = end_of(config, run)
  assert shlex.split(evaluate)[2] == f'--source={run}'


def test_image_to_predict_is_one_of_the_folder(config, tmp_path):
  config.dataset.name, config.dataset.data_dir = 'folder', str(tmp_path)
  folder = tmp_path / 'train' / 'a cat'
  folder.mkdir(parents=True)
  for name in ('notes.txt', '._b.png', 'b.png'):
    (folder / name).touch()
  _, (*_, predict, _, _, _) = end_of(config, tmp_path)
  assert shlex.split(predict)[-1] == str(folder / 'b.png')


@pytest.mark.slow
def test_commands_work_when_they_are_pasted(trained_run, tmp_path):
  run = tmp_path / 'a run'
  shutil.copytree(trained_run, run)
  Image.new('RGB', (8, 8)).save(tmp_path / 'IMAGE.jpg')
  config = default.get_config()
  config.num_steps = 40
  here = os.getcwd()
  try:
    os.chdir(tmp_path)
    _, (*_, evaluate, predict, export, longer, _) = end_of(config, run)
  finally:
    os.chdir(here)
  for line in (evaluate, predict, export, longer):
    done = commands.run(
      ['convmixer_jax', *shlex.split(line)[1:]], directory=tmp_path
    )
    assert done.returncode == 0, done.stderr
  last = done.stdout.splitlines()[-1]
  assert 'of 80' in done.stdout and last.startswith('eval_accuracy = ')
  assert {'confusion.png'} <= {
    path.name for path in pathlib.Path(tmp_path / 'evaluation').iterdir()
  }
