"""What `test_recipe_devices.py` runs in a process with its own devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu \
    python tests/support/recipe_process.py OUT.npz

Writes into OUT.npz what a recipe of 8 groups of 8 images computes on the
devices of this process, and, as JSON, what its compiled steps communicate.
"""

import json
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from convmixer_jax.distributed import sharding
from convmixer_jax.models import create_model
from convmixer_jax.training import optimizer as optimizer_lib
from convmixer_jax.training import preprocess, schedules, steps

BATCH, GROUP, SIZE, DEPTH, NUM_CLASSES = 64, 8, 12, 2, 10
_COLLECTIVE = re.compile(
  r' = (.*?) (all-reduce|all-gather|all-to-all|collective-permute'
  r'|reduce-scatter|collective-broadcast)(?:-start)?\(.*'
)


def recipe(**changes):
  config = default.get_config()
  config.batch_size = BATCH
  config.dataset.image_size = SIZE
  config.model.width, config.model.depth = 8, DEPTH
  config.model.patch_size, config.model.kernel_size = 2, 3
  config.model.depthwise = 'shift'
  config.model.bn_group_size = GROUP
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.5
  config.mixup.group_size = GROUP
  config.erasing.probability = 0.5
  config.label_smoothing = 0.1
  config.update_from_flattened_dict(changes)
  return config


def collectives(compiled):
  """Lists (operation, dtype of each operand, whether XLA widened it)."""
  return [
    (
      match[2],
      re.findall(r'(\w+)\[[\d,]*\]', match[1]),
      'promoted' in match[0],  # the CPU reduces no bfloat16, and says so
    )
    for match in _COLLECTIVE.finditer(compiled.as_text())
  ]


def batch_on(mesh):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
  label = rng.integers(0, NUM_CLASSES, BATCH, dtype=np.int32)
  return sharding.to_global({'image': image, 'label': label}, mesh)


def compile_preprocess(config, mesh):
  def run(batch, rng):
    return preprocess.preprocess_train(batch, rng, config, NUM_CLASSES)

  jitted = jax.jit(run, out_shardings=sharding.batch_sharding(mesh))
  return jitted.lower(batch_on(mesh), jax.random.key(1)).compile()


def compile_step(config, mesh):
  model = create_model(config.model, NUM_CLASSES, config.dtype)
  schedule = schedules.create_schedule(config, 10, 100)
  optimizer = optimizer_lib.create_optimizer(config, schedule)
  create_state = partial(steps.create_state, model, optimizer, config)
  at = sharding.state_sharding(mesh, jax.eval_shape(create_state))
  state = jax.jit(create_state, out_shardings=at)()
  jitted = jax.jit(
    steps.make_train_step(
      model,
      optimizer,
      schedule,
      config,
      split=partial(sharding.split_batch, mesh=mesh),
    ),
    out_shardings=(at, sharding.replicated(mesh)),
  )
  return state, jitted.lower(state, batch_on(mesh)).compile()


def compile_naive_gradient(mesh):
  """The gradient in bfloat16 that the recipe must not have."""

  def loss(kernel, images):
    x = images.astype(jnp.bfloat16).reshape(BATCH, -1)
    return jnp.sum(jnp.dot(x, kernel.astype(x.dtype)).astype(jnp.float32) ** 2)

  kernel = jnp.ones((SIZE * SIZE * 3, 4))
  jitted = jax.jit(jax.grad(loss), out_shardings=sharding.replicated(mesh))
  return jitted.lower(kernel, batch_on(mesh)['image']).compile()


def straddling_recipe():
  """A recipe of 4 groups: on 8 devices, each has images of two devices."""
  return recipe(
    **{'mixup.group_size': 2 * GROUP, 'model.bn_group_size': 2 * GROUP}
  )


def train(config, mesh):
  """Returns loss, parameters and statistics of two steps, and their memory."""
  state, step = compile_step(config, mesh)
  for _ in range(2):
    state, metrics = step(state, batch_on(mesh))
  leaves = jax.tree_util.tree_leaves_with_path(
    (state.params, state.batch_stats)
  )
  arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
  arrays['loss'] = metrics.train_loss.total
  return arrays, step.memory_analysis().temp_size_in_bytes


def main(out):
  mesh = sharding.create_mesh(default.get_config().mesh)
  config = recipe()
  preprocessing = compile_preprocess(config, mesh)
  images, targets = preprocessing(batch_on(mesh), jax.random.key(1))
  whole, whole_bytes = train(config, mesh)
  straddling, straddling_bytes = train(straddling_recipe(), mesh)
  arrays = {
    'images': images,
    'targets': targets,
    **whole,
    **{f'straddling {name}': array for name, array in straddling.items()},
  }
  found = {
    'num_devices': jax.device_count(),
    'preprocess': collectives(preprocessing),
    'bytes': whole_bytes,
    'straddling_bytes': straddling_bytes,
  }
  if jax.device_count() > 1:
    compiled = compile_preprocess(straddling_recipe(), mesh)
    found['preprocess_straddling'] = collectives(compiled)
    found['naive_gradient'] = collectives(compile_naive_gradient(mesh))
    cases = {
      'shift': {},
      'xla': {'model.depthwise': 'xla'},
      'whole_batch': {'model.bn_group_size': 0},
    }
    for name, changes in cases.items():
      _, compiled = compile_step(recipe(dtype='bfloat16', **changes), mesh)
      found[name] = collectives(compiled)
  np.savez(out, found=json.dumps(found), **jax.device_get(arrays))


if __name__ == '__main__':
  main(sys.argv[1])
