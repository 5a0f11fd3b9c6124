"""From a folder of images to a trained network, resumed and fine-tuned."""

import json

import numpy as np
import pytest
import trees
from PIL import Image

from configs import finetune, folder
from convmixer_jax.errors import UserError
from convmixer_jax.training.loop import train_and_evaluate


def make_photos(root):
  """Writes dark and bright images, which two classes tell apart."""
  for label, shade in (('dark', 40), ('bright', 200)):
    (root / label).mkdir(parents=True)
    for number in range(20):
      noise = np.random.default_rng(number).integers(-30, 30, (16, 16, 3))
      pixels = np.uint8(shade + noise)
      Image.fromarray(pixels).save(root / label / f'{number}.jpg')
  return str(root)


@pytest.mark.slow
def test_folder_is_trained_on_resumed_and_fine_tuned(tmp_path, capsys):
  config = folder.get_config('scratch')
  config.dataset.data_dir = make_photos(tmp_path / 'photos')
  config.model.width, config.model.depth = 8, 1
  config.num_epochs, config.eval_every_epochs = 8, 8
  config.input.num_workers = 0
  run = tmp_path / 'run'
  results = train_and_evaluate(config, str(run))
  assert results['eval_accuracy'] == 1.0
  recorded = json.loads((run / 'config.json').read_text())
  assert recorded['batch_size'] == 8
  assert recorded['dataset']['image_size'] == 112
  assert json.loads((run / 'labels.json').read_text()) == ['bright', 'dark']

  again = train_and_evaluate(config, str(run))  # the same command
  assert again['eval_accuracy'] == results['eval_accuracy']

  tuned = finetune.get_config()
  tuned.model.update(config.model.to_dict())
  tuned.init_from = str(run)
  tuned.dataset.name, tuned.dataset.data_dir = 'folder', config.dataset.data_dir
  tuned.dataset.image_size, tuned.batch_size = 0, 0
  tuned.num_epochs, tuned.input.num_workers = 2, 0
  train_and_evaluate(tuned, str(tmp_path / 'tuned'))
  assert (
    'the head is initialised from random numbers' in capsys.readouterr().out
  )

  trees.write_tree(config.dataset.data_dir, {'other': 2})
  with pytest.raises(UserError, match='holds a run on other data'):
    train_and_evaluate(config, str(run))
