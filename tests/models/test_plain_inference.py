"""Evaluation of networks without a faster form: blocks out of their stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import models
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.models.state_dict import Entry, Table

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
MEAN, STD = jnp.float32([120, 110, 100]), jnp.float32([60, 55, 50])
SIZES = {'width': 192, 'depth': 2, 'patch_size': 4}


def create(name, **fields):
  config = models.model_config(name, **SIZES, **fields)
  model = models.create_model(config, 5, image_size=8)
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: 0.05 * rng.standard_normal(leaf.shape, np.float32),
    variable_shapes(model, 8),
  )
  return model, variables


@pytest.mark.parametrize('scan', [False, True])
def test_packed_weights_give_the_same_logits(scan):
  model, variables = create('mixer', scan=scan)
  infer = models.MODELS['mixer'].make_inference(
    model, variables, MEAN, STD, pack_weights=True
  )

  @jax.jit
  def both(infer, variables, images):
    normalized = (images.astype(np.float32) - MEAN) / STD
    return infer(images), model.apply(variables, normalized, train=False)

  packed, expected = both(infer, variables, IMAGES)
  np.testing.assert_allclose(packed, expected, atol=1e-5)


def test_packed_weights_are_not_copied_in_a_call():
  model, variables = create('mixer')
  infer = models.MODELS['mixer'].make_inference(
    model, variables, MEAN, STD, pack_weights=True
  )
  expand = variables['params']['blocks']['mlp']['expand']['kernel']
  kernels = [
    leaf for leaf in jax.tree.leaves(infer) if leaf.shape == expand.shape[1:]
  ]
  assert len(kernels) == SIZES['depth']
  # Those of NumPy are views of the stack.
  assert all(np.shares_memory(kernel, expand) for kernel in kernels)
  step = jax.jit(lambda infer, images: infer(images))
  memory = step.lower(infer, IMAGES).compile().memory_analysis()
  assert memory.temp_size_in_bytes < expand.nbytes / 2


def test_tensors_of_a_file_that_are_float32_are_not_copied():
  table = Table([Entry(('params', 'bias'), 'bias')], 'Net')
  shapes = {'params': {'bias': jax.ShapeDtypeStruct((3,), jnp.float32)}}
  for dtype in (np.float32, np.float64):
    tensor = np.ones(3, dtype)
    found = table.check({'bias': tensor}, shapes, 'file')['bias']
    assert found.dtype == np.float32
    assert np.shares_memory(found, tensor) == (dtype == np.float32)
