"""What runs of every network have to pass, in a tiny form of it."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import (
  ANY_SIZE,
  CALLED,
  IN_FILES,
  NAMES,
  TINY,
  assert_identical,
  config_of,
  images_of,
  normalized,
)
from run_files import read_state

from convmixer_jax import export, models
from convmixer_jax.cli import convert
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import initialize, loop


@pytest.fixture(scope='module', params=NAMES)
def run(request, tmp_path_factory):
  """The name of a network, and the directory of a run of it."""
  directory = tmp_path_factory.mktemp(request.param)
  loop.train_and_evaluate(config_of(request.param), str(directory))
  return request.param, directory


@pytest.mark.slow
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(run, tmp_path):
  name, whole = run
  pieces = tmp_path / 'pieces'
  shutil.copytree(whole, pieces)
  shutil.rmtree(pieces / 'checkpoints' / '4')
  state = read_state(whole, 4)
  loop.train_and_evaluate(config_of(name), str(pieces))
  assert_identical(read_state(pieces, 4), state)
  before = read_state(whole, 2)['params']
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), before, state['params']
  )
  assert all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_run_is_loaded_and_has_a_model_card(run):
  name, directory = run
  network = load(f'{directory}@newest')
  assert type(network.model) is models.MODELS[name].module
  called = CALLED.get(name, f'{type(network.model).__name__}-8/2')
  assert network.name == f'{called} of {directory}, step 4'
  config = network.eval_config(batch_size=1)
  card = export.model_card(network, config, [export.STABLEHLO])
  # The others matter in training only, as drop_path and layer_scale do.
  fields = models.MODELS[name].names('network')
  expected = {key: TINY[name][key] for key in TINY[name] if key in fields}
  assert {'width', 'depths'} & expected.keys()
  assert expected.items() <= card['size'].items()
  leaves = jax.tree.leaves(network.variables['params'])
  assert card['size']['parameters'] == sum(leaf.size for leaf in leaves)
  if models.patch_size_of(network.model) > 1:
    with pytest.raises(UserError, match='of 1 x 1 are smaller than a patch'):
      network.eval_config(1, 1)


@pytest.mark.slow
def test_converted_weights_start_another_run_with_a_new_head(run, tmp_path):
  name, directory = run
  # Those that no other program has are converted to a directory alone.
  file = tmp_path / ('x.safetensors' if name in IN_FILES else 'x')
  again = tmp_path / 'again'
  convert.convert(str(directory), str(file))
  convert.convert(str(file), str(again))
  state = read_state(directory, 4)
  config = config_of(name)
  for source in (f'{directory}/checkpoints/4', str(file), str(again)):
    config.init_from = source
    model = models.create_model(config.model, 10)
    start = initialize.load_pretrained(config, model, '0123456789')
    loaded = load(source)
    assert loaded.network == name
    if source == f'{directory}/checkpoints/4':
      assert_identical(start['params'], state['params'])
    assert_identical(start['params'], loaded.variables['params'])
  fewer = models.create_model(config.model, 3)
  params = initialize.load_pretrained(config, fewer, '012')['params']
  assert models.MODELS[name].head not in params
  config.new_head, config.backbone_lr_scale, config.num_steps = True, 0.0, 1
  loop.train_and_evaluate(config, str(tmp_path / 'new'))
  now = read_state(tmp_path / 'new', 1)['params']
  head = models.MODELS[name].head
  for module, arrays in params.items():
    assert_identical(now[module], arrays)
  before = jax.tree.leaves(loaded.variables['params'][head])
  for new, old in zip(jax.tree.leaves(now[head]), before, strict=True):
    assert np.any(new != old)


@pytest.mark.slow
def test_weights_trained_at_another_image_size_start_a_run(run):
  name, directory = run
  config = config_of(name)
  config.init_from = str(directory)
  config.dataset.image_size = 12
  model = models.create_model(config.model, 10)
  if name not in ANY_SIZE:
    with pytest.raises(UserError, match='16 patches, and these have 36; its'):
      initialize.load_pretrained(config, model, '0123456789')
    return
  start = initialize.load_pretrained(config, model, '0123456789')['params']
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 12, 12, 3)), train=False
    )
  )['params']
  assert jax.tree.map(np.shape, start) == jax.tree.map(jnp.shape, shapes)
  variables = load(str(directory)).variables
  images = normalized(images_of(12))
  np.testing.assert_allclose(
    model.apply(variables | {'params': start}, images, train=False),
    model.apply(variables, images, train=False),
    atol=1e-5,
  )
