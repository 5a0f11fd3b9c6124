"""A stored gradient: the identity, which keeps XLA:CPU from repeating sums."""

import json
import re

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

needs_compiler = pytest.mark.skipif(
  library.unavailable('stored') is not None,
  reason='the CPU kernels need a C++ compiler',
)
SHAPE = (4, 6, 32)

PRINT_COLLECTIVES = """
import json, re
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax.kernels import stored_gradient
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
x = jax.device_put(jnp.ones((8, 3, 5)), NamedSharding(mesh, P('data')))
gradient = jax.jit(jax.grad(lambda x: jnp.sum(stored_gradient(2 * x) ** 2)))
text = gradient.lower(x).compile().as_text()
pattern = 'all-gather|all-to-all|all-reduce|collective-permute'
print(json.dumps(dict(
  collectives=re.findall(pattern, text),
  calls=text.count('custom_call_target="convmixer_stored"'),
  values=gradient(x).ravel().tolist(),
)))
"""


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_value_and_gradient_pass_unchanged(dtype):
  rng = np.random.default_rng(0)
  x, g = (jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(2))
  y, pull = jax.vjp(jax.jit(kernels.stored_gradient), x)
  np.testing.assert_array_equal(y, x, strict=True)
  np.testing.assert_array_equal(pull(g)[0], g, strict=True)


def most_operands(layers):
  """Returns how many arrays `SHAPE` an operation reads in a backward pass."""

  def network(x):
    for _ in range(layers):
      mean = x.mean(-1, keepdims=True)
      y = (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True))
      x = kernels.stored_gradient(x + jnp.tanh(y))
    return x

  x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
  program = jax.jit(lambda x, g: jax.vjp(network, x)[1](g)).lower(x, x)
  shape = ','.join(map(str, SHAPE))
  return max(
    len(re.findall(rf'= f32\[{shape}\]\S* parameter\(', computation))
    for computation in program.compile().as_text().split('\n}')
  )


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='is about CPUs')
@needs_compiler
def test_no_operation_reads_more_in_a_deeper_network():
  assert most_operands(8) == most_operands(4) < 8


@needs_compiler
def test_gpu_program_has_no_call():
  gradient = jax.jit(jax.grad(lambda x: kernels.stored_gradient(2 * x).sum()))
  x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
  program = gradient.trace(x).lower(lowering_platforms=('cuda',))
  assert 'convmixer' not in program.as_text()


@needs_compiler
def test_sharded_gradient_is_not_moved():
  found = json.loads(devices.run(PRINT_COLLECTIVES, 4))
  assert found['collectives'] == []
  assert found['calls'] == 1
  assert set(found['values']) == {8.0}
