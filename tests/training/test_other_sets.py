"""Images that are not RGB squares, from training to predictions."""

import numpy as np
import other_sets
import pytest
from jax import export as jax_export

from convmixer_jax import export, load
from convmixer_jax.config import default_config, height_width
from convmixer_jax.data.sources import create_source
from convmixer_jax.data.statistics import compute_statistics, find_channels
from convmixer_jax.evaluation import per_image, protocols
from convmixer_jax.models import model_config
from convmixer_jax.training.loop import train_and_evaluate

CONVMIXER = {'name': 'convmixer', 'width': 16, 'depth': 2, 'kernel_size': 3}


def spectrograms(config, directory):
  other_sets.write_spectrograms(directory)
  config.dataset.name = 'sounds'
  config.dataset.image_feature = 'spectrogram'
  config.dataset.label_feature = 'kind'
  config.dataset.image_size = other_sets.SPECTROGRAM
  config.augment.crop = 'none'
  return [
    other_sets.spectrogram(index) for index in (64, 65)
  ], other_sets.to_npy


def bands(config, directory):
  other_sets.write_bands(directory)
  config.dataset.name = 'bands'
  config.dataset.image_feature = ','.join(other_sets.BANDS)
  config.dataset.label_feature = 'kind'
  config.dataset.image_size = 24
  return [other_sets.satellite(index) for index in (64, 65)], other_sets.to_npy


def satellites(config, directory):
  other_sets.write_folder(
    directory,
    lambda index: other_sets.to_npy(other_sets.satellite(index)),
    '.npy',
  )
  config.dataset.name = 'folder'
  config.dataset.image_size = 24
  return [other_sets.satellite(index) for index in (64, 65)], other_sets.to_npy


def scans(config, directory):
  other_sets.write_folder(
    directory,
    lambda index: other_sets.to_png(other_sets.medical(index)),
    '.png',
  )
  config.dataset.name = 'folder'
  config.dataset.image_size = (40, 32)
  return [other_sets.medical(index) for index in (64, 65)], other_sets.to_png


CASES = {
  'spectrograms': (spectrograms, CONVMIXER, 'float32', 1),
  'spectrograms, ViT': (
    spectrograms,
    {'name': 'vit', 'width': 16, 'depth': 2, 'heads': 2, 'patch_size': 8},
    'float32',
    1,
  ),
  'bands as features': (bands, CONVMIXER, 'uint16', 12),
  'bands as files': (satellites, CONVMIXER, 'uint16', 12),
  'scans': (scans, CONVMIXER, 'uint8', 1),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_set_is_trained_resumed_evaluated_predicted_and_exported(
  name, tmp_path
):
  write, model, dtype, channels = CASES[name]
  config = default_config(model_config(**model))
  images, encode = write(config, tmp_path / 'data')
  if config.model.name == 'convmixer':
    config.model.patch_size = 4
  dataset = config.dataset
  dataset.data_dir = str(tmp_path / 'data')
  dataset.train_split, dataset.eval_split = 'train', 'test'

  assert find_channels(dataset, 'train') == channels
  dataset.mean = dataset.std = (0.5,) * channels
  found = compute_statistics(create_source(dataset, 'train'))
  assert found.dtype == dtype
  dataset.mean, dataset.std = (
    tuple(x.tolist()) for x in (found.mean, found.std)
  )

  config.batch_size, config.num_epochs = 8, 4
  config.learning_rate = 0.01
  config.augment.flip = 0.0
  config.augment.crop_scale = (0.7, 1.0)
  config.erasing.probability = 0.25
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.2
  config.eval_every_epochs = 4
  config.input.num_workers = 0
  workdir = str(tmp_path / 'run')
  train_and_evaluate(config, workdir)
  config.num_epochs = 8
  metrics = train_and_evaluate(config, workdir)
  assert metrics['eval_accuracy'] > 0.9

  trained = load(f'{workdir}@newest')
  assert (trained.channels, trained.image_dtype) == (channels, dtype)
  eval_config = trained.eval_config(8)
  eval_config.dataset.name = dataset.name
  eval_config.dataset.data_dir = dataset.data_dir
  source, classes = protocols.open_test_set(
    eval_config.dataset, 'test', trained.class_names, 2
  )
  results = per_image.evaluate_per_image(trained, source, eval_config, classes)
  assert results.metrics()['eval_accuracy'] == pytest.approx(
    metrics['eval_accuracy']
  )

  paths = []
  for number, image in enumerate(images):
    path = tmp_path / f'{number}{".png" if dtype == "uint8" else ".npy"}'
    path.write_bytes(encode(image))
    paths.append(str(path))
  predictions = trained.predict(paths)
  assert [p.names[0] for p in predictions] == ['even', 'odd']
  stacked = np.stack(images)
  stacked = stacked if stacked.ndim == 4 else stacked[..., None]
  logits = trained.logits(stacked)
  np.testing.assert_allclose(trained.logits(paths), logits, atol=1e-5)

  height, width = height_width(dataset.image_size)
  exported = jax_export.deserialize(
    bytearray(
      export.to_stablehlo(
        trained.model, trained.variables, eval_config.dataset, dtype=dtype
      )
    )
  )
  inputs = np.zeros((2, height, width, channels), dtype)
  inputs[:, : stacked.shape[1], : stacked.shape[2]] = stacked
  outputs = exported.call(inputs)
  np.testing.assert_allclose(outputs, trained.logits(inputs), atol=1e-4)
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(
    export.to_onnx(
      trained.model, trained.variables, eval_config.dataset, dtype=dtype
    )
  )
  (other,) = session.run(None, {'images': inputs})
  np.testing.assert_allclose(other, outputs, atol=1e-3)
  card = export.model_card(trained, eval_config, [export.STABLEHLO])
  assert card['input']['shape'] == ['batch', height, width, channels]
  assert card['input']['dtype'] == dtype
