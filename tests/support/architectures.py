"""A tiny form of every network, for the tests that all networks pass."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import default
from convmixer_jax import models

# Fields for images of 8 x 8 pixels, with all that is random switched on.
TINY = {
  'convmixer': {'width': 8, 'depth': 2, 'patch_size': 2, 'kernel_size': 3},
  'vit': {'width': 8, 'depth': 2, 'heads': 2, 'drop_path': 0.3},
  'distilled_vit': {'width': 8, 'depth': 2, 'heads': 2, 'drop_path': 0.3},
  'resmlp': {'width': 8, 'depth': 2, 'layer_scale': 0.5, 'drop_path': 0.3},
  'mixer': {'width': 8, 'depth': 2, 'token_hidden': 8, 'drop_path': 0.3},
  'resnet': {'depths': (2, 1, 3, 1), 'widths': (2,) * 4, 'drop_path': 0.3},
  'isotropic': {
    'width': 8,
    'depth': 2,
    'stem': 'overlapping',
    'token_mixer': 'attention',
    'norm_place': 'before',
    'residual': 'both',
    'layer_scale': 0.5,
    'position_embedding': True,
    'drop_path': 0.3,
  },
}
# Of the tiny forms: fields of another network, the grids of the blocks for
# images of 8 x 8 pixels, and how people call them.
OTHER_FIELDS = {'resnet': {'widths': (16, 2, 2, 2)}}
GRIDS = {'resnet': [(2, 2)] * 2 + [(1, 1)] * 5}
CALLED = {'resnet': 'ResNet-23'}
NAMES = list(models.MODELS)
# Those whose weights can be in files of other programs.
IN_FILES = [name for name in NAMES if models.MODELS[name].state_dict]
# Those that take images of any size; the others' layers fit one size.
ANY_SIZE = ('convmixer', 'vit', 'distilled_vit', 'resnet', 'isotropic')


def config_of(name):
  config = default.get_config()
  config.model = models.model_config(name, **TINY[name])
  config.batch_size, config.num_steps = 64, 4
  config.checkpoint_every_steps, config.keep_checkpoints = 2, 4
  config.augment.crop_scale, config.augment.flip = (0.6, 1.0), 0.0
  config.log_every_steps = 2
  config.input.num_threads = 2
  config.accum_steps = 2
  return config


def create(name, num_classes=10, **changes):
  """Returns a model, and variables of which none is 0 or 1."""
  config = models.model_config(name, **(TINY[name] | changes))
  model = models.create_model(config, num_classes)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )
  return model, draw_variables(shapes)


def draw_variables(shapes):
  """Returns random variables of these shapes, of which none is 0 or 1."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    values = rng.normal(size=leaf.shape) * 0.4
    if path[-1].key in ('scale', 'var'):
      values = np.abs(values) + 0.5
    return values.astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def images_of(size=8, count=4):
  shape = (count, size, size, 3)
  return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


DATASET = ml_collections.ConfigDict(
  {
    'image_size': 8,
    'image_dtype': 'uint8',
    'mean': (0.4, 0.5, 0.6),
    'std': (0.2, 0.25, 0.3),
  }
)


def normalized(images):
  pixels = images / 255 - np.array(DATASET.mean)
  return (pixels / np.array(DATASET.std)).astype(np.float32)


def assert_identical(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
