"""Selection of kernels for plots, and effective receptive fields."""

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.analysis import receptive_field
from convmixer_jax.models import ConvMixer
from convmixer_jax.models.convmixer.pictures import select_kernels


def network(depth, **fields):
  model = ConvMixer(8, depth, 2, 3, num_classes=5, depthwise='shift', **fields)
  init = jax.jit(lambda rng, x: model.init(rng, x, train=False))
  return model, init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_all_kernels_of_a_narrow_network_are_selected():
  rng = np.random.default_rng(0)
  patches = rng.normal(size=(2, 2, 3, 8)).astype(np.float32)
  depthwise = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
  shown = select_kernels(
    {
      'patch_embedding': {'kernel': patches},
      'blocks': {'depthwise': {'kernel': depthwise}},
    }
  )
  assert shown['patch_embedding'].shape == (8, 2, 2, 3)
  assert shown['depthwise'].shape == (3, 8, 3, 3, 1)
  for channel in range(8):
    np.testing.assert_array_equal(
      shown['patch_embedding'][channel], patches[..., channel]
    )
    np.testing.assert_array_equal(
      shown['depthwise'][:, channel, ..., 0], depthwise[..., channel]
    )


def test_64_kernels_of_a_wide_network_are_selected_and_only_they_gathered():
  code = """
import re
import jax, numpy as np
from jax.sharding import AxisType, PartitionSpec
from convmixer_jax.models.convmixer.pictures import select_kernels
from convmixer_jax.distributed import sharding
mesh = jax.make_mesh((2, 4), ('data', 'fsdp'), axis_types=(AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
patches = rng.normal(size=(7, 7, 3, 160)).astype(np.float32)
depthwise = rng.normal(size=(2, 8, 8, 160)).astype(np.float32)
params = {
  'patch_embedding': {'kernel': patches},
  'blocks': {'depthwise': {'kernel': depthwise}},
}
params = jax.device_put(params, sharding.state_sharding(mesh, params))
for leaf in jax.tree.leaves(params):
  assert leaf.sharding.spec == PartitionSpec(None, None, None, 'fsdp')
select = jax.jit(
  select_kernels, out_shardings=sharding.replicated(mesh)
)
shown = jax.device_get(select(params))
channels = [0, 2, 5, 7, 10]  # 64 of 160: one in 2.5
for index, channel in enumerate(channels):
  np.testing.assert_array_equal(
    shown['patch_embedding'][index], patches[..., channel]
  )
  np.testing.assert_array_equal(
    shown['depthwise'][:, index, ..., 0], depthwise[..., channel]
  )
compiled = select.lower(params).compile().as_text()
sent = re.findall(r' = (.*?) (?:all-|collective-|reduce-)[a-z-]+\\(', compiled)
sizes = re.findall(r'f32\\[([\\d,]+)\\]', ' '.join(sent))
assert sizes, compiled
for size in sizes:
  assert '160' not in size and '64' in size, sizes
"""
  devices.run(code, 8)


@pytest.mark.slow
def test_receptive_fields_equal_finite_differences():
  model, variables = network(depth=2)
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  fields = receptive_field.effective_receptive_fields(model, variables, images)
  assert fields.shape == (2, 8, 8)

  @jax.jit
  def compute_centres(images):
    _, state = model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    outputs = state['intermediates']['blocks']['output'][0]
    assert outputs.shape == (2, 2, 4, 4, 8)
    return outputs[:, :, 2, 2].sum(axis=-1)

  for row, column in ((4, 4), (2, 5), (0, 0)):
    slopes = []
    for color in range(3):
      step = np.zeros((1, 8, 8, 3), np.float32)
      step[0, row, column, color] = 0.05
      rise = compute_centres(images + step) - compute_centres(images - step)
      slopes.append(np.abs(rise / 0.1))
    np.testing.assert_allclose(
      fields[:, row, column],
      np.mean(slopes, axis=(0, 2)),
      rtol=0.02,
      atol=1e-5,
    )


@pytest.mark.slow
def test_receptive_field_of_a_block_does_not_depend_on_later_blocks():
  model, variables = network(depth=2)
  shorter = model.clone(depth=1)
  first_block = {
    kind: tree | {'blocks': jax.tree.map(lambda x: x[:1], tree['blocks'])}
    for kind, tree in variables.items()
  }
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  fields = receptive_field.effective_receptive_fields(model, variables, images)
  (field,) = receptive_field.effective_receptive_fields(
    shorter, first_block, images
  )
  np.testing.assert_allclose(fields[0], field, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('fields', [{}, {'scan': True, 'remat': True}])
def test_receptive_fields_have_the_extent_of_the_kernels(fields):
  model, variables = network(depth=3, **fields)
  images = jax.random.normal(jax.random.key(1), (4, 20, 20, 3))
  fields = receptive_field.effective_receptive_fields(model, variables, images)
  for block, field in enumerate(fields, start=1):
    # Patches of 2; the centre is patch 5; a block adds one patch on each side.
    inside = np.zeros((20, 20), bool)
    inside[2 * (5 - block) : 2 * (6 + block)] = True
    inside &= inside.T
    assert (np.asarray(field)[inside] > 0).all()
    assert (np.asarray(field)[~inside] == 0).all()
