"""Prediction: image files by NumPy and Pillow, broken ones, and no more."""

import csv
import io
import json
import os

import commands
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from convmixer_jax.cli import predict
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained import images as images_lib
from convmixer_jax.pretrained import predictions
from convmixer_jax.pretrained.load import load

flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Seven pictures, one of them broken, in a folder within a folder."""
  root = tmp_path_factory.mktemp('pictures')
  (root / 'deep' / 'er').mkdir(parents=True)
  rng = np.random.default_rng(0)
  for name, shape in {
    'b.png': (8, 8, 3),
    'a.JPEG': (30, 20, 3),
    'deep/z.bmp': (9, 31, 3),
    'deep/er/grey.png': (16, 16),
    'deep/er/c.jpg': (8, 8, 3),
    'c.webp': (11, 11, 3),
  }.items():
    pixels = rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(root / name)
  (root / 'deep' / 'broken.png').write_bytes(b'\x89PNG nothing')
  (root / 'notes.txt').write_text('no picture')
  return root


SORTED = [
  'a.JPEG',
  'b.png',
  'c.webp',
  'deep/broken.png',
  'deep/er/c.jpg',
  'deep/er/grey.png',
  'deep/z.bmp',
]


def expected(network, path):
  """Resizes the short side to 8 and crops the middle, with Pillow."""
  with Image.open(path) as file:
    image = file.convert('RGB')
  width, height = image.size
  if height <= width:
    image = image.resize((8 * width // height, 8), Image.Resampling.BICUBIC)
  else:
    image = image.resize((8, 8 * height // width), Image.Resampling.BICUBIC)
  left, top = (round((side - 8) / 2) for side in image.size)
  pixels = np.array(image)[None, top : top + 8, left : left + 8]
  logits = network.model.apply(
    network.variables, (pixels / 255 - 0.5) / 0.25, train=False
  )
  shares = np.exp(np.asarray(logits[0], np.float64))
  return shares / shares.sum()


def test_files_of_folders_are_found_in_order(folder):
  found = images_lib.find_images([str(folder / 'notes.txt'), str(folder)])
  assert found.paths == [str(folder / name) for name in ['notes.txt', *SORTED]]
  assert found.passed_over == {'not an image': 1}
  with pytest.raises(UserError, match=r'nope.png does not exist; name image'):
    images_lib.find_images([str(folder), str(folder / 'nope.png')])


def test_folder_without_images_is_refused(tmp_path):
  (tmp_path / 'a.txt').write_text('no image')
  with pytest.raises(UserError, match=r'no images .* \(1 not an image\);'):
    images_lib.find_images([str(tmp_path)])


def test_probabilities_equal_those_of_the_network(
  trained_run, folder, monkeypatch
):
  network = load(str(trained_run))
  paths, _ = images_lib.find_images([str(folder)])
  traces = []
  compiled = predictions._to_predictions

  def counted(*args, **kwargs):
    traces.append(args[1].shape)
    return compiled(*args, **kwargs)

  monkeypatch.setattr(predictions, '_to_predictions', counted)
  seen = list(predictions.predict_images(network, paths, batch_size=3))
  assert traces == [(3, 8, 8, 3)]  # compiled once
  assert [found.path for found in seen] == paths
  for path, found in zip(paths, seen, strict=True):
    if path.endswith('broken.png'):
      assert 'cannot decode image' in found.error and path in found.error
      assert found.best == ()
      continue
    shares = expected(network, path)
    assert found.best == tuple(np.argsort(-shares)[:5])
    np.testing.assert_allclose(
      found.probabilities, np.sort(shares)[:-6:-1], rtol=1e-4
    )


def test_command_prints_predictions_and_reports_unreadable_files(
  trained_run, folder, capsys
):
  arguments = ['predict', str(folder)]
  with (
    flagsaver.flagsaver(source=str(trained_run), format='csv'),
    pytest.raises(UserError, match='1 of 7 files could not be read'),
  ):
    predict.main(arguments)
  printed = capsys.readouterr()
  first, passed_over, line = printed.err.splitlines()
  assert passed_over == 'Passed over: 1 not an image'
  step = load(str(trained_run)).step
  loaded = f'Loaded {trained_run}, step {step} (best): ConvMixer-16/2'
  assert first == loaded
  assert line.startswith('error: cannot decode image')
  assert str(folder / 'deep/broken.png') in line
  rows = list(csv.DictReader(io.StringIO(printed.out)))
  names = [name for name in SORTED if 'broken' not in name for _ in range(5)]
  assert [row['file'] for row in rows] == [str(folder / name) for name in names]
  assert [row['rank'] for row in rows] == list('12345') * 6
  shares = expected(load(str(trained_run)), folder / 'a.JPEG')
  best = np.argsort(-shares)[:5]
  assert [int(row['class']) for row in rows[:5]] == list(best)
  assert [row['name'] for row in rows[:5]] == [str(k) for k in best]
  np.testing.assert_allclose(
    [float(row['probability']) for row in rows[:5]], shares[best], atol=1e-5
  )

  with flagsaver.flagsaver(source=str(trained_run)):
    predict.main(['predict', str(folder / 'a.JPEG')])
  lines = capsys.readouterr().out.splitlines()
  assert lines == [
    loaded,
    str(folder / 'a.JPEG'),
    *(f'  {100 * shares[k]:5.1f} %  {k}' for k in best),
  ]


def test_json_lines_have_classes_or_the_error_of_each_file(
  trained_run, folder, tmp_path, capsys
):
  odd = os.fsencode(tmp_path) + b'/na\xefve "\n\xe2\x98\x83.png'
  with open(folder / 'b.png', 'rb') as file, open(odd, 'wb') as copy:
    copy.write(file.read())
  with (
    flagsaver.flagsaver(source=str(trained_run), format='jsonl'),
    pytest.raises(UserError, match='1 of 8 files could not be read'),
  ):
    predict.main(['predict', str(folder), str(tmp_path)])
  printed = capsys.readouterr()
  assert printed.err.startswith('Loaded ') and printed.out.isascii()
  lines = [json.loads(line) for line in printed.out.splitlines()]
  names = [str(folder / name) for name in SORTED]
  names += [f'{tmp_path}/na\\xefve "\n\N{SNOWMAN}.png']
  assert [line['file'] for line in lines] == names
  broken = lines.pop(SORTED.index('deep/broken.png'))
  assert broken.keys() == {'file', 'error'}
  assert broken['error'].startswith('cannot decode image')
  shares = expected(load(str(trained_run)), folder / 'a.JPEG')
  best = np.argsort(-shares)[:5]
  for line in lines:
    assert line.keys() == {'file', 'predictions'}
    assert len(line['predictions']) == 5
  for found, k in zip(lines[0]['predictions'], best, strict=True):
    assert (found['class'], found['name']) == (k, str(k))
    assert found['probability'] == pytest.approx(shares[k], rel=1e-4)
  assert lines[-1]['predictions'] == lines[1]['predictions']


def test_photographs_are_turned_upright_unless_told_otherwise(
  trained_run, tmp_path
):
  network = load(str(trained_run))
  pixels = np.zeros((16, 16, 3), np.uint8)
  pixels[:8] = 255
  exif = Image.Exif()
  exif[0x0112] = 6
  photo = Image.fromarray(pixels)
  photo.save(tmp_path / 'upright.png')
  photo.rotate(90).save(tmp_path / 'lying.png', exif=exif)
  paths = [str(tmp_path / name) for name in ('upright.png', 'lying.png')]
  upright, turned = predictions.predict_images(network, paths)
  assert turned.probabilities == upright.probabilities
  _, lying = predictions.predict_images(network, paths, exif_rotate=False)
  assert lying.probabilities != upright.probabilities


def test_whatever_is_wrong_with_a_file_the_others_continue(
  trained_run, tmp_path, monkeypatch
):
  paths = [str(tmp_path / f'{name}.png') for name in 'abcd']
  for path in paths:
    Image.new('RGB', (8, 8)).save(path)
  os.remove(paths[1])
  transform = images_lib.eval_transform
  calls = []

  def fail_once(*args):
    calls.append(args)
    if len(calls) == 1:
      raise MemoryError
    return transform(*args)

  monkeypatch.setattr(images_lib, 'eval_transform', fail_once)
  monkeypatch.setattr(images_lib.limits, 'num_cores', lambda: 1)
  found = list(predictions.predict_images(load(str(trained_run)), paths))
  errors = [prediction.error for prediction in found]
  assert 'needs more memory than there is' in errors[0]
  assert 'cannot be read (No such file or directory)' in errors[1]
  assert errors[2:] == [None, None] and all(p.best for p in found[2:])


def test_command_without_images_is_refused_in_one_line(trained_run):
  done = commands.run(['convmixer_jax', 'predict', f'--source={trained_run}'])
  assert (done.returncode, done.stdout) == (1, '')
  assert done.stderr == (
    'error: no picture is named; name image files or folders of them\n'
  )
