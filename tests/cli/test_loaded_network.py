"""What commands use of a network: the chosen weights, and its own input."""

import json

import architectures
import commands
import jax
import numpy as np
import pytest
from PIL import Image
from trained_models import trained_model

from configs import digits
from convmixer_jax.data.sources import create_source
from convmixer_jax.models import create_model, model_config
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import loop

COMMANDS = ('predict', 'export', 'evaluate')
OWN_INPUT = {
  'image_size': 12,
  'eval_crop_fraction': 0.75,
  'eval_interpolation': 'bilinear',
  'mean': (0.3, 0.4, 0.5),
  'std': (0.2, 0.25, 0.3),
}
# What a run on digits has.
INPUT_OF_DIGITS = {
  'image_size': 8,
  'eval_crop_fraction': 1.0,
  'eval_interpolation': 'bicubic',
  'mean': (0.5,) * 3,
  'std': (0.25,) * 3,
}
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def run(command, directory, *flags):
  """Runs a command with one of its inputs.

  Returns:
    Of predict, the probabilities of `PICTURE` by class; of export, the outputs
    of the exported program for a square of it; of evaluate, the mean loss over
    the digits.
  """
  arguments = {
    'predict': [directory / 'picture.png', '--format=jsonl'],
    'export': [f'--output={directory}'],
    'evaluate': ['--dataset=digits', f'--output={directory}'],
  }[command]
  directory.mkdir()
  Image.fromarray(PICTURE).save(directory / 'picture.png')
  done = commands.run(['convmixer_jax', command, *arguments, *flags])
  assert done.returncode == 0, done.stderr
  if command == 'predict':
    found = json.loads(done.stdout)['predictions']
    return {row['class']: row['probability'] for row in found}
  if command == 'evaluate':
    return json.loads((directory / 'result.json').read_text())['eval_loss']
  card = json.loads((directory / 'model.json').read_text())
  _, height, width, _ = card['input']['shape']
  program = (directory / 'model.stablehlo').read_bytes()
  square = PICTURE[None, :height, :width]
  return np.asarray(jax.export.deserialize(bytearray(program)).call(square))


def expect(command, network, about):
  """Returns what `run` should, from pixels that Pillow has prepared.

  Args:
    command: one of `COMMANDS`.
    network: which gives the weights alone.
    about: the input of the network, as in `OWN_INPUT`.
  """
  size = about['image_size']
  short = int(size / about['eval_crop_fraction'])
  resample = Image.Resampling[about['eval_interpolation'].upper()]

  def prepare(image):
    height, width = image.shape[:2]
    sides = [short * side // min(height, width) for side in (width, height)]
    left, top = (round((side - size) / 2) for side in sides)
    resized = Image.fromarray(image).resize(sides, resample)
    return np.asarray(resized.crop((left, top, left + size, top + size)))

  def logits(pixels):
    normalized = (np.stack(pixels) / 255 - about['mean']) / about['std']
    outputs = network.model.apply(network.variables, normalized, train=False)
    return np.asarray(outputs, np.float64)

  if command == 'export':
    return logits([PICTURE[:size, :size]])
  if command == 'predict':
    shares = jax.nn.softmax(logits([prepare(PICTURE)])[0])
    return {int(k): shares[k] for k in np.argsort(-shares)[:5]}
  source = create_source(digits.get_config().dataset, 'test')
  images = [source[n] for n in range(len(source))]
  outputs = logits([prepare(image['image']) for image in images])
  labels = [image['label'] for image in images]
  return np.mean(
    np.log(np.exp(outputs).sum(-1)) - outputs[range(len(labels)), labels]
  )


def assert_equal(found, expected):
  """Compares what `run` and `expect` have returned."""
  if isinstance(found, dict):
    assert found.keys() == expected.keys()
    found, expected = (
      [outputs[key] for key in sorted(outputs)] for outputs in (found, expected)
    )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('command', COMMANDS)
def test_images_are_prepared_as_the_weights_say(command, tmp_path):
  config = model_config(
    'resmlp', width=8, depth=1, patch_size=4, layer_scale=0.5
  )
  model = create_model(config, 10, image_size=12)
  variables = architectures.draw_variables(variable_shapes(model, 12))
  names = tuple('0123456789')
  network = trained_model(model, variables, **OWN_INPUT, class_names=names)
  weight_files.save(network, str(tmp_path / 'own.safetensors'))
  found = run(
    command, tmp_path / 'out', f'--source={tmp_path / "own.safetensors"}'
  )
  assert_equal(found, expect(command, network, OWN_INPUT))


@pytest.fixture(scope='module')
def averaged(tmp_path_factory):
  """The directory of a run with an average that differs from its weights."""
  config = digits.get_config()
  config.model.width, config.model.depth, config.model.kernel_size = 8, 1, 3
  config.batch_size, config.num_steps = 256, 5
  config.ema_decay, config.learning_rate = 0.9, 0.05
  config.input.num_threads = 2
  directory = tmp_path_factory.mktemp('averaged') / 'run'
  loop.train_and_evaluate(config, str(directory))
  return directory


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS)
def test_weights_are_the_average_or_not_by_flag(command, averaged, tmp_path):
  source = f'--source={averaged}@newest'
  outputs = {}
  for flag, chosen in (('--ema', True), ('--noema', False)):
    outputs[flag] = run(command, tmp_path / flag, source, flag)
    network = load(f'{averaged}@newest', ema=chosen)
    assert_equal(outputs[flag], expect(command, network, INPUT_OF_DIGITS))
  with pytest.raises(AssertionError):
    assert_equal(*outputs.values())
