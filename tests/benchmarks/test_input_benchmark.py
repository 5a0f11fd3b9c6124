"""The benchmark of the input: results with and without timm."""

import contextlib
import json
import sys

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.benchmarks import input as input_benchmark
from convmixer_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
  rng = np.random.default_rng(0)
  for number in range(3):
    pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f'{number}.jpg')
  return tmp_path


def measure(folder, python):
  files = input_benchmark.read_folder(str(folder))
  return input_benchmark.run(
    files, timm_python=python, image_size=32, rounds=2, chunk=5
  )


def test_result_without_timm_has_the_command_to_install_it(folder):
  result = json.loads(json.dumps(measure(folder, None)))
  assert result['images_per_sec'] > 0
  assert set(result['milliseconds']) == {
    'decode',
    'crop, resize, flip',
    'RandAugment',
  }
  assert 'pip install timm' in result['timm']['missing']
  assert 'pip install timm' in input_benchmark.table(result)


def test_missing_python_is_named(folder):
  result = measure(folder, str(folder / 'python'))
  assert str(folder / 'python') in result['timm']['missing']


def test_ratios_are_of_time_to_timm(folder, monkeypatch):
  class TwiceAsSlow(contextlib.nullcontext):
    missing, versions = None, {'timm': '1.0'}

    def __enter__(self):
      return self

    def measure(self, part):
      return {'cpu': 2.0, 'wall': 3.0}

  monkeypatch.setattr(
    input_benchmark,
    '_time',
    lambda function, files: {'cpu': 1.0, 'wall': 1.0},
  )
  monkeypatch.setattr(input_benchmark, 'TimmInput', lambda *_: TwiceAsSlow())
  timm = measure(folder, sys.executable)['timm']
  assert timm['ratio'] == {'cpu': [2.0, 2.0, 2.0], 'wall': [3.0, 3.0, 3.0]}
  assert timm['images_per_sec'] == 2.5


def test_empty_folder_is_refused(tmp_path):
  with pytest.raises(UserError, match='has no files'):
    input_benchmark.read_folder(str(tmp_path))
