"""Evaluation at another image size than that of training."""

import numpy as np
import pytest

from configs import digits
from convmixer_jax import config as config_lib
from convmixer_jax import models
from convmixer_jax.cli import convert
from convmixer_jax.data import pipeline, sources
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import loop
from convmixer_jax.training.setup import set_up


@pytest.fixture
def config():
  config = digits.get_config()
  config.model = models.model_config('vit', width=8, depth=1, heads=2)
  config.model.patch_size, config.num_steps = 4, 2
  config.augment.eval_image_size = 12
  config.augment.eval_crop_fraction = 0.9
  config.input.num_threads = 1
  return config


def test_batches_have_the_size_of_their_use(config):
  source = sources.open_source(config.dataset, 'test')
  with_sizes = (pipeline.train_batches, 8), (pipeline.eval_batches, 12)
  for open_batches, size in with_sizes:
    batches = open_batches(source, config)
    assert next(batches)['image'].shape == (128, size, size, 3)
    batches.close()


@pytest.mark.slow
def test_run_is_evaluated_loaded_and_converted_with_its_size(config, tmp_path):
  results = loop.train_and_evaluate(config, str(tmp_path / 'run'))
  run = load(str(tmp_path / 'run'))
  table = run.variables['params']['position_embedding']
  assert table.shape[1] == 1 + 2 * 2  # of images of 8 x 8
  for name in ('copy', 'copy.safetensors'):
    convert.convert(str(tmp_path / 'run'), str(tmp_path / name))
  copy = load(str(tmp_path / 'copy'))
  assert run.eval_config(1).dataset.image_size == 12
  assert copy.eval_config(1).dataset.image_size == 12
  file = load(str(tmp_path / 'copy.safetensors'))
  assert file.test_input == (12, 0.9) and file.image_size == 8
  assert file.eval_config(1).dataset.image_size == 12
  source = sources.open_source(config.dataset, 'test')
  examples = [source[number] for number in range(len(source))]
  images = [example['image'] for example in examples]
  labels = [int(example['label']) for example in examples]
  logits = run.logits(images)
  accuracy = np.mean(np.argmax(logits, axis=-1) == labels)
  assert accuracy == pytest.approx(results['eval_accuracy'], abs=1e-6)
  np.testing.assert_array_equal(logits, copy.logits(images))


def test_networks_of_one_size_refuse_another(config, tmp_path):
  config.model = models.model_config('resmlp', width=8, depth=1)
  config.model.patch_size = 4
  with pytest.raises(UserError, match=r'eval_image_size = 12 .* of 4 patches'):
    set_up(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  config.augment.eval_image_size = 8
  set_up(config, str(tmp_path / 'run'))


def test_sizes_that_are_not_square_have_no_other(config):
  config.dataset.image_size = (8, 16)
  with pytest.raises(UserError, match='is for square images'):
    config_lib.validate(config)
