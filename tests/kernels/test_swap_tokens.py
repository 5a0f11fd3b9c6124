"""Tokens and channels in each other's place, against NumPy."""

import json

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

SHAPES = [
  (2, 16, 32),
  (3, 17, 33),
  (1, 1, 5),
  (2, 49, 1),
  (0, 4, 3),
  (1, 15, 7),
]
SWAPS = [kernels.swap_tokens, kernels.swap_back]

PRINT_SHARDED = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import swap_tokens

x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5, 7)), jnp.float32)
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
sharded = jax.device_put(x, NamedSharding(mesh, P('data')))
compiled = jax.jit(swap_tokens).lower(sharded).compile()
print(json.dumps({
  'collectives': re.findall('all-[a-z]+', compiled.as_text()),
  'calls': compiled.as_text().count('convmixer_transpose'),
  'is_equal': bool((compiled(sharded) == x.swapaxes(1, 2)).all()),
}))
"""


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('transpose'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('swap', SWAPS)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_value_and_gradient_are_moved(swap, shape, dtype, backend):
  batch, tokens, channels = shape
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=shape), dtype)
  g = jnp.asarray(rng.normal(size=(batch, channels, tokens)), dtype)
  y, pull = jax.vjp(lambda x: swap(x, backend=backend), x)
  np.testing.assert_array_equal(y, np.swapaxes(x, 1, 2), strict=True)
  np.testing.assert_array_equal(pull(g)[0], np.swapaxes(g, 1, 2), strict=True)


@pytest.mark.parametrize('swap', SWAPS)
def test_works_under_vmap(swap, backend):
  x = jnp.arange(24.0).reshape(2, 1, 3, 4)
  mapped = jax.vmap(lambda x: swap(x, backend=backend))
  y, pull = jax.vjp(mapped, x)
  np.testing.assert_array_equal(y, x.swapaxes(2, 3))
  np.testing.assert_array_equal(pull(y)[0], x)


@pytest.mark.parametrize('swap', SWAPS)
def test_an_unknown_backend_is_refused(swap):
  with pytest.raises(ValueError, match='cuda'):
    swap(jnp.ones((1, 2, 3)), backend='cuda')


@pytest.mark.parametrize('swap', SWAPS)
@pytest.mark.parametrize(
  'dtype, backend', [(jnp.float32, 'xla'), (jnp.bfloat16, None)]
)
def test_xla_has_derivatives_in_forward_mode(swap, dtype, backend):
  x = jnp.ones((2, 3, 4), dtype)
  _, slope = jax.jvp(lambda x: swap(x, backend=backend), (x,), (2 * x,))
  np.testing.assert_array_equal(slope, 2 * x.swapaxes(1, 2), strict=True)


@pytest.mark.slow
def test_sharded_tokens_are_not_moved():
  if library.unavailable('transpose'):
    pytest.skip('the CPU kernels need a C++ compiler')
  assert json.loads(devices.run(PRINT_SHARDED, count=4)) == {
    'collectives': [],
    'calls': 1,
    'is_equal': True,
  }
