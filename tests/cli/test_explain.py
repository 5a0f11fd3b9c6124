"""The command explain: its files, their names, and what is refused."""

import json
import os

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from convmixer_jax.cli import explain, picture_names
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.load import load

flags.FLAGS.mark_as_parsed()


def photo(seed, shape=(12, 9)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*shape, 3), np.uint8)


def run(run_directory, directory, *paths, **values):
  known = {'source': str(run_directory), 'output': str(directory)}
  with flagsaver.flagsaver(**known | values):
    explain.main(['explain', *map(str, paths)])


def test_files_of_each_picture_are_written(trained_run, tmp_path, capsys):
  odd = os.fsdecode(os.fsencode(str(tmp_path)) + b'/b\xff?.png')
  Image.fromarray(photo(0)).save(tmp_path / 'a.jpg')
  Image.fromarray(photo(1)).save(odd)
  (tmp_path / 'c.png').write_bytes(b'nothing')
  paths = tmp_path / 'a.jpg', odd, tmp_path / 'c.png'
  values = {'class': ['3', '5'], 'layer': ['1', 'last'], 'npz': True}
  with pytest.raises(UserError, match='1 of 3 files could not be read'):
    run(trained_run, tmp_path / 'out', *paths, **values)
  out, err = capsys.readouterr()
  assert out.startswith(f'Loaded {trained_run}, step ')
  assert 'c.png' in err and len(err.splitlines()) == 1
  written = sorted(path.name for path in (tmp_path / 'out').iterdir())
  assert written == [
    'a.npz',
    'a.png',
    'b_xff_.npz',
    'b_xff_.png',
    'explanations.json',
  ]
  trained = load(str(trained_run))
  first, second = json.loads((tmp_path / 'out/explanations.json').read_text())
  assert second['file'] == f'{tmp_path}/b\\xff?.png'
  assert second['picture'] == 'b_xff_.png'
  assert [layer['method'] for layer in first['layers']] == ['gradcam', 'cam']
  with np.load(tmp_path / 'out' / 'b_xff_.npz') as arrays:
    assert set(arrays) == {'block1', 'last'}
    for row, number in enumerate((3, 5)):
      expected = trained.explain(photo(1), number, ['block1', 'last'])
      assert second['classes'][row]['class'] == number
      assert second['classes'][row]['logit'] == pytest.approx(expected.logit)
      for layer, array in expected.maps.items():
        np.testing.assert_allclose(arrays[layer][row], array, atol=1e-5)
  with Image.open(tmp_path / 'out' / 'a.png') as file:
    assert file.width > file.height > 300  # a row for each of two classes


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'output': None}, '--output is missing; give a directory'),
    ({'source': None}, '--source is missing'),
    ({'class': ['cat']}, "there is no class 'cat'; did you mean '"),
    ({'class': ['10']}, 'there is no class 10; the network has 0 to 9'),
    (
      {'layer': ['stem', 'block9']},
      "no layer 'block9'; there are stem, block1",
    ),
    ({'layer': ['']}, "there is no layer ''"),
    ({'method': 'cam', 'layer': ['stem']}, "CAM is of the layer 'last'"),
    ({'output': '{here}'}, 'has the picture .*a.png in it; give another'),
    ({'output': '{here}/a.png'}, 'a.png'),
  ],
)
def test_wrong_input_is_refused_before_anything_is_written(
  trained_run, tmp_path, values, message
):
  path = tmp_path / 'a.png'
  Image.fromarray(photo(0)).save(path)
  content = path.read_bytes()
  if values.get('output'):
    values = {'output': values['output'].format(here=tmp_path)}
  with pytest.raises(UserError, match=message) as error:
    run(trained_run, tmp_path / 'out', path, **values)
  assert '\n' not in str(error.value)
  assert [found.name for found in tmp_path.iterdir()] == ['a.png']
  assert path.read_bytes() == content


def test_command_without_pictures_is_refused(trained_run, tmp_path):
  with pytest.raises(UserError, match='no picture is named'):
    run(trained_run, tmp_path / 'out')
  with pytest.raises(UserError, match=r'no\.png does not exist'):
    run(trained_run, tmp_path / 'out', tmp_path / 'no.png')
  assert not (tmp_path / 'out').exists()


def test_names_of_pictures_are_safe_and_all_different():
  paths = ['x/a.png', 'y/A.jpg', 'a-2.png', '\u732b.png', 'c:d*.png', '?.gif']
  assert picture_names.choose(paths) == [
    'a.png',
    'A-2.png',
    'a-2-2.png',
    '\u732b.png',
    'c_d_.png',
    '_.png',
  ]
  (long,) = picture_names.choose(['\u732b' * 300 + '.png'])
  assert len(os.fsencode(long)) < 255
