"""The folded network against the network in evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.models import ConvMixer
from convmixer_jax.models.convmixer.folding import (
  apply_folded,
  fold,
  pack_folded_weights,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def create(**fields):
  """A network with random parameters, BatchNorm's and its statistics too."""
  fields = {
    'width': 24,
    'depth': 3,
    'patch_size': 2,
    'kernel_size': 4,
    'num_classes': 7,
  } | fields
  model = ConvMixer(**fields)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )
  rng = np.random.default_rng(0)
  return model, jax.tree_util.tree_map_with_path(
    lambda path, leaf: jnp.float32(
      rng.uniform(0.3, 2, leaf.shape)
      if path[-1].key == 'var'
      else rng.normal(size=leaf.shape) * (0.3 if leaf.ndim > 2 else 1)
    ),
    shapes,
  )


@pytest.mark.parametrize('depthwise', [None, 'xla'])
@pytest.mark.parametrize(
  'fields',
  [
    {'activation': 'relu', 'patch_size': 3},
    *(
      pytest.param(fields, marks=pytest.mark.slow)
      for fields in ({}, {'depth': 1}, {'scan': True})
    ),
  ],
)
def test_folded_network_has_the_same_logits(fields, depthwise):
  model, variables = create(depthwise=depthwise, **fields)
  images = np.random.default_rng(1).uniform(size=(2, 11, 14, 3))
  images = jnp.float32(images)
  normalized = (images - jnp.float32(MEAN)) / jnp.float32(STD)
  evaluate = jax.jit(functools.partial(model.apply, train=False))
  expected = evaluate(variables, normalized)
  folded = fold(variables, MEAN, STD)
  for blocks in (folded, pack_folded_weights(model, folded)):
    found = jax.jit(functools.partial(apply_folded, model))(blocks, images)
    np.testing.assert_allclose(
      found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.slow
def test_uint8_pixels_are_exact_in_bfloat16():
  model, variables = create(dtype=jnp.bfloat16)
  images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
  scale = [255 * value for value in MEAN], [255 * value for value in STD]
  folded = fold(variables, *scale)
  found = apply_folded(model, folded, images)
  expected = apply_folded(model.clone(dtype=jnp.float32), folded, images)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(
    found, expected, rtol=0.1, atol=0.1 * np.abs(expected).max()
  )
