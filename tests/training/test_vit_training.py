"""How a ViT starts and trains: initialisation, drop path, many devices."""

import functools
import pathlib

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from convmixer_jax.models import ViT, create_model, layers, model_config
from convmixer_jax.training import optimizer, schedules, steps


@pytest.mark.slow
def test_initialisation_has_the_published_distribution():
  model = create_model(model_config('vit', width=256, heads=4, depth=2), 100)
  variables = model.init(
    jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False
  )
  assert variables.keys() == {'params'}
  params = variables['params']
  for path in (
    ('blocks', 'attention', 'qkv'),
    ('blocks', 'attention', 'projection'),
    ('blocks', 'mlp', 'expand'),
    ('blocks', 'mlp', 'contract'),
    ('head',),
  ):
    layer = functools.reduce(lambda tree, name: tree[name], path, params)
    assert np.std(layer['kernel']) == pytest.approx(0.02, rel=0.03)
    assert not np.any(layer['bias'])
  bound = (2 * 2 * 3) ** -0.5  # PyTorch's default
  for array in params['patch_embedding']['projection'].values():
    assert np.abs(array).max() == pytest.approx(bound, rel=0.05)
    assert np.std(array) == pytest.approx(bound / 3**0.5, rel=0.1)
  embedding = params['position_embedding']
  assert embedding.shape == (1, 65, 256)
  assert np.std(embedding) == pytest.approx(0.02, rel=0.03)
  assert 0 < np.abs(params['class_token']).max() < 1e-5


@pytest.mark.slow
def test_drop_path_grows_linearly_over_depth_and_is_determined_by_the_key():
  fields = {'width': 24, 'depth': 3, 'patch_size': 8, 'heads': 3}
  model = ViT(**fields, num_classes=5, drop_path=0.75)
  images = jax.random.normal(jax.random.key(1), (64, 32, 32, 3))
  variables = model.init(jax.random.key(2), images[:1], train=False)

  def outputs(model, key, train=True):
    _, state = model.apply(
      variables,
      images,
      train=train,
      mutable='intermediates',
      rngs={'dropout': jax.random.key(key)},
    )
    return state['intermediates']['blocks']['output'][0]

  plain = outputs(model, 0, train=False)
  dropped = outputs(model, 0)
  np.testing.assert_array_equal(dropped[0], plain[0])  # rate 0
  np.testing.assert_array_equal(dropped, outputs(model, 0))
  assert np.any(dropped != outputs(model, 1))
  np.testing.assert_array_equal(outputs(model.clone(drop_path=0.0), 0), plain)
  # A block whose branches are both dropped leaves the image as it was.
  unchanged = [
    np.mean(np.all(dropped[i] == dropped[i - 1], axis=(1, 2, 3)))
    for i in (1, 2)
  ]
  assert 0.02 < unchanged[0] < 0.35  # (3/8)^2 = 0.14 of 64 images
  assert 0.36 < unchanged[1] < 0.77  # (3/4)^2 = 0.56


def test_drop_path_keeps_the_mean():
  x = jnp.ones((4096, 2, 3))
  y = layers.drop_path(x, 0.25, jax.random.key(0))
  assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
  assert np.all(np.ptp(y, axis=(1, 2)) == 0)
  assert np.mean(y) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_drop_path_differs_between_steps_and_repeats_with_the_step():
  config = digits.get_config()
  config.model = model_config('vit', width=8, depth=2, heads=2, drop_path=0.5)
  config.learning_rate, config.accum_steps = 0.0, 2
  config.schedule, config.weight_decay = 'constant', 0.0
  model = create_model(config.model, 10)
  schedule = schedules.create_schedule(config, 10, 10)
  adamw = optimizer.create_optimizer(config, schedule)
  state = jax.jit(lambda: steps.create_state(model, adamw, config))()
  step = jax.jit(steps.make_train_step(model, adamw, schedule, config))
  images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
  labels = np.arange(16) % 10

  def losses(images, labels):
    batch = {'image': images, 'label': labels}
    first, metrics = step(state, batch)
    _, later = step(first, batch)
    return metrics.train_loss.total, later.train_loss.total

  first, second = losses(images, labels)
  assert first != second
  assert losses(images, labels) == (first, second)


@pytest.mark.slow
def test_step_is_equal_on_any_devices_and_reduces_in_float32():
  code = """
import sys
import jax, numpy as np
from configs import digits
from convmixer_jax import models
from convmixer_jax.distributed import sharding
from convmixer_jax.training.trainer import create_trainer
sys.path.insert(0, sys.argv[1])
from recipe_process import collectives

def create(num_devices, fsdp, dtype='float32'):
  config = digits.get_config()
  config.model = models.model_config(
    'vit', width=128, depth=2, patch_size=4, drop_path=0.5
  )
  config.batch_size, config.num_steps, config.accum_steps = 32, 4, 2
  config.mesh.fsdp, config.dtype = fsdp, dtype
  mesh = sharding.create_mesh(config.mesh, jax.devices()[:num_devices])
  trainer = create_trainer(config, mesh, num_classes=10, steps_per_epoch=4)
  return trainer, mesh

def batch_on(mesh):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (32, 8, 8, 3), np.uint8)
  labels = rng.integers(0, 10, 32).astype(np.int32)
  return sharding.to_global({'image': images, 'label': labels}, mesh)

def params_after_two_steps(trainer, mesh):
  state = trainer.create_state({})
  for _ in range(2):
    state, _ = trainer.train_step(state, batch_on(mesh))
  return jax.device_get(state.params)

one, split = params_after_two_steps(*create(1, 1)), create(8, 4)
leaves = jax.tree.leaves(split[0].state.params)
assert any('fsdp' in leaf.sharding.spec for leaf in leaves)
jax.tree.map(
  lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
  params_after_two_steps(*split), one
)
trainer, mesh = create(8, 1, 'bfloat16')
found = collectives(
  trainer.train_step.lower(trainer.state, batch_on(mesh)).compile()
)
assert found
for operation, dtypes, widened in found:
  assert set(dtypes) == {'f32'} and not widened, (operation, dtypes, widened)
"""
  devices.run(code, 8, str(pathlib.Path(devices.__file__).parent))
