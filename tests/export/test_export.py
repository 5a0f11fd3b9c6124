"""Exported files have the outputs of the network, without this package."""

import json
import pathlib
import subprocess
import sys

import commands
import jax
import ml_collections
import numpy as np
import onnx
import onnxruntime
import pytest
from trained_models import trained_model

from convmixer_jax import export
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.runs import load_run

ROOT = pathlib.Path(__file__).parents[2]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

# Loads the files by the code of the card, with no packages but JAX.
LOAD_WITH_JAX_ALONE = """
import json, sys
import numpy as np

class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in {
        'absl', 'clu', 'configs', 'convmixer_jax', 'etils', 'flax', 'grain',
        'ml_collections', 'onnx', 'optax', 'orbax', 'tensorflow'}:
      raise ImportError(f'{name} may not be imported')

sys.meta_path.insert(0, Refuse())
try:
  import convmixer_jax
except ImportError:
  pass
else:
  raise AssertionError

for file in json.load(open('model.json'))['files']:
  if file['file'] == 'model.stablehlo':
    for given in ('one', 'five'):
      images = np.load(f'{given}.npy')
      exec(file['load'])
      np.save(f'{given}_outputs.npy', outputs)
"""


def with_random_statistics(model):
  """Returns random parameters and BatchNorm statistics."""
  image = jax.ShapeDtypeStruct((1, 14, 14, 3), np.float32)
  shapes = jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x, train=False), image
  )
  rng = np.random.default_rng(0)

  def draw(shape):
    values = rng.uniform(0.1, 0.6, shape.shape)
    if len(shape.shape) > 2:  # kernels
      values *= rng.choice([-1, 1], shape.shape)
    return values.astype(np.float32)

  return jax.tree.map(draw, shapes)


def dataset(size):
  return ml_collections.ConfigDict(
    {'image_size': size, 'mean': MEAN, 'std': STD}
  )


def random_images(count, size):
  shape = (count, size, size, 3)
  return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def compute_outputs(model, variables, images):
  normalized = ((images / 255 - MEAN) / np.array(STD)).astype(np.float32)
  return jax.jit(lambda x: model.apply(variables, x, train=False))(normalized)


NETWORKS = {
  'gelu, even kernel, cropped rows': (ConvMixer(8, 2, 3, 4, num_classes=7), 14),
  'relu, odd kernel': (
    ConvMixer(8, 3, 2, 5, activation='relu', num_classes=3),
    8,
  ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_onnx_equals_the_network(name):
  model, size = NETWORKS[name]
  variables = with_random_statistics(model)
  content = export.to_onnx(model, variables, dataset(size))
  onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
  session = onnxruntime.InferenceSession(content)
  for count in (1, 5):
    images = random_images(count, size)
    (outputs,) = session.run(None, {'images': images})
    expected = compute_outputs(model, variables, images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  assert np.ptp(expected, axis=0).max() > 0.01  # depends on the images


@pytest.mark.parametrize('name', NETWORKS)
def test_stablehlo_equals_the_network(name):
  model, size = NETWORKS[name]
  variables = with_random_statistics(model)
  content = export.to_stablehlo(model, variables, dataset(size))
  loaded = jax.export.deserialize(bytearray(content))
  assert loaded.platforms == ('cpu', 'tpu', 'cuda')
  for count in (1, 5):
    images = random_images(count, size)
    expected = compute_outputs(model, variables, images)
    outputs = loaded.call(images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_probabilities_equal_the_softmax_of_the_logits():
  model, size = NETWORKS['relu, odd kernel']
  variables, images = with_random_statistics(model), random_images(2, size)
  expected = jax.nn.softmax(compute_outputs(model, variables, images))
  arguments = (model, variables, dataset(size))
  content = export.to_onnx(*arguments, probabilities=True)
  session = onnxruntime.InferenceSession(content)
  (outputs,) = session.run(None, {'images': images})
  np.testing.assert_allclose(outputs, expected, atol=1e-5)
  content = export.to_stablehlo(*arguments, probabilities=True)
  outputs = jax.export.deserialize(bytearray(content)).call(images)
  np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_stablehlo_does_not_call_custom_kernels():
  model, size = NETWORKS['relu, odd kernel']
  variables = with_random_statistics(model)
  content = export.to_stablehlo(model, variables, dataset(size))
  text = jax.export.deserialize(bytearray(content)).mlir_module()
  assert 'convmixer_correlate' not in text
  # Platforms other than CPUs use XLA's convolution.
  assert 'feature_group_count = 8' in text


def test_card_of_weights_without_a_run_has_no_accuracy():
  model, size = NETWORKS['relu, odd kernel']
  network = trained_model(
    model,
    with_random_statistics(model),
    image_size=size,
    eval_crop_fraction=0.96,
    mean=MEAN,
    std=STD,
    class_names=('cat', 'dog', 'n0'),
  )
  config = network.eval_config(batch_size=1)
  formats = [export.ONNX]
  card = export.model_card(network, config, formats, probabilities=True)
  assert json.loads(json.dumps(card)) == card
  assert card['accuracy'] is card['training'] is None
  assert card['labels'] == ['cat', 'dog', 'n0']
  assert card['input']['eval_crop_fraction'] == 0.96
  assert card['output']['values'] == 'probabilities'
  assert [file['file'] for file in card['files']] == ['model.onnx']


def test_error_without_onnx_has_the_command_to_install_it(monkeypatch):
  model, size = NETWORKS['relu, odd kernel']
  monkeypatch.setitem(sys.modules, 'onnx', None)
  with pytest.raises(UserError, match=r"pip install '\.\[onnx\]'$"):
    export.to_onnx(model, with_random_statistics(model), dataset(size))


def run_tool(*arguments):
  return commands.run(['convmixer_jax', 'export', *arguments])


@pytest.mark.slow
def test_exported_run_is_loaded_with_jax_only(trained_run, tmp_path):
  directory = tmp_path / 'new' / 'exported'
  directory.mkdir(parents=True)
  (directory / 'weights.onnx').write_text('of another network')
  done = run_tool(
    f'--source={trained_run}@32',
    f'--output={directory}',
    '--size=12',
    '--format=stablehlo,onnx',
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  (others,) = (line for line in done.stdout.splitlines() if 'before' in line)
  assert others == (
    f'Left in {directory} as before, not written by this command: weights.onnx'
  )

  given = {'one': random_images(1, 12), 'five': random_images(5, 12)}
  for name, images in given.items():
    np.save(directory / f'{name}.npy', images)
  subprocess.run(
    [sys.executable, '-I', '-W', 'error', '-c', LOAD_WITH_JAX_ALONE],
    cwd=directory,
    env={'JAX_PLATFORMS': 'cpu'},
    check=True,
  )
  network = load(f'{trained_run}@32')
  card = json.loads((directory / 'model.json').read_text())
  (_, onnx_file) = card['files']
  for name, images in given.items():
    normalized = ((images / 255 - 0.5) / 0.25).astype(np.float32)
    expected = network.model.apply(network.variables, normalized, train=False)
    outputs = np.load(directory / f'{name}_outputs.npy')
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    scope = {'images': images}
    code = onnx_file['load'].replace('model.onnx', f'{directory}/model.onnx')
    exec(code, scope)
    np.testing.assert_allclose(scope['outputs'], expected, rtol=1e-4, atol=1e-5)

  row = {row['step']: row for row in load_run(trained_run).metrics}[32]
  assert card['accuracy']['eval_accuracy'] == row['eval_accuracy']
  assert card['accuracy']['image_size'] == 8  # that of the measurement
  assert card['input']['shape'] == ['batch', 12, 12, 3]
  assert card['output']['shape'] == ['batch', 10]
  assert card['labels'] == list('0123456789')
  assert card['data']['name'] == 'digits'
  assert card['normalization']['std'] == [0.25, 0.25, 0.25]
  assert card['training']['model']['width'] == card['size']['width'] == 16
  parameters = jax.tree.leaves(network.variables['params'])
  assert card['size']['parameters'] == sum(leaf.size for leaf in parameters)
  assert 'jax' in card['versions']


def test_unknown_format_is_refused_and_writes_nothing(tmp_path):
  output = tmp_path / 'exported'
  done = run_tool(
    '--source=/nowhere', f'--output={output}', '--format=onnx,tflite'
  )
  assert done.returncode == 1
  assert done.stderr == (
    'error: --format=tflite is unknown; there are stablehlo, onnx\n'
  )
  assert not output.exists()
