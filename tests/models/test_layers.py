"""The layers that several networks share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.models.layers import EPSILON, LayerNorm


def test_layer_norm_has_the_parameters_and_the_result_of_flax():
  x = jax.random.normal(jax.random.key(0), (2, 5, 33))
  ours = LayerNorm(jnp.float32, None)
  theirs = nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False)
  variables, expected = (
    layer.init(jax.random.key(1), x) for layer in (ours, theirs)
  )
  jax.tree.map(np.testing.assert_array_equal, variables, expected)
  np.testing.assert_allclose(
    ours.apply(variables, x), theirs.apply(variables, x), atol=3e-6
  )
