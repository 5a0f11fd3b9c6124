"""Dense layers, alone and two with a GELU, against JAX in float64."""

import functools
import json
import os

import commands
import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from convmixer_jax import kernels
from convmixer_jax.kernels.cpu import library

needs_compiler = pytest.mark.skipif(
  library.unavailable('linear') is not None,
  reason='the CPU kernels need a C++ compiler',
)

PRINT_SHARDED = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convmixer_jax import kernels

rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
x, g = draw(8, 40, 5), draw(8, 40, 3)
weights = draw(5, 7), draw(7), draw(7, 3), draw(3)

def run(g, x, *weights):
  y, pull = jax.vjp(kernels.mlp, x, *weights)
  return y, *pull(g)

expected = jax.jit(run)(g, x, *weights)
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
g, x = jax.device_put((g, x), NamedSharding(mesh, P('data')))
weights = jax.device_put(weights, NamedSharding(mesh, P()))
compiled = jax.jit(run).lower(g, x, *weights).compile()
text, found = compiled.as_text(), compiled(g, x, *weights)
print(json.dumps({
  'kinds': sorted(set(
    re.findall(r' (all-\\w+|collective-\\w+)(?:-start)?\\(', text))),
  'foreign': len(re.findall(r'_target="convmixer_\\w+"', text)),
  'error': max(
    float(abs(np.asarray(a) - np.asarray(b)).max())
    for a, b in zip(found, expected)),
}))
"""

PRINT_DIGEST = """
import hashlib, os, sys
cpus = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cpus[:int(sys.argv[1])])
import jax, jax.numpy as jnp, numpy as np
from convmixer_jax import kernels
rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
def run(g, *a):
  y, pull = jax.vjp(lambda *a: kernels.mlp(*a, backend='cpu'), *a)
  return y, *pull(g)
shapes = (9, 200, 90), (9, 200, 160), (160, 500), (500,), (500, 90), (90,)
found = jax.jit(run)(*[draw(*shape) for shape in shapes])
data = b''.join(np.asarray(a).tobytes() for a in found)
print(hashlib.sha256(data).hexdigest())
"""


@pytest.fixture(params=['cpu', 'xla', None])
def backend(request):
  if request.param == 'cpu' and library.unavailable('linear'):
    pytest.skip('the CPU kernels need a C++ compiler')
  return request.param


def plain_dense(x, kernel, bias):
  return x @ kernel + bias


def plain_mlp(x, kernel1, bias1, kernel2, bias2):
  hidden = jax.nn.gelu(x @ kernel1 + bias1, approximate=False)
  return hidden @ kernel2 + bias2


def draw(*shapes):
  """Returns arrays, of which matrices keep the size of what they multiply."""
  rng = np.random.default_rng(0)
  return [
    jnp.asarray(
      rng.normal(size=s) * (max(s[0], 1) ** -0.5 if len(s) == 2 else 1),
      jnp.float32,
    )
    for s in shapes
  ]


def with_gradients(function, g, *operands):
  y, pull = jax.vjp(function, *operands)
  return y, *pull(g.astype(y.dtype))


def check(function, plain, g, *operands):
  found = jax.jit(functools.partial(with_gradients, function))(g, *operands)
  with jax.enable_x64(True):
    wide = [np.float64(array) for array in (g, *operands)]
    expected = [np.asarray(a) for a in with_gradients(plain, *wide)]
  for array, exact in zip(found, expected, strict=True):
    assert array.dtype == jnp.float32
    largest = np.abs(exact).max(initial=1)
    np.testing.assert_allclose(array, exact, 0, 3e-6 * largest)


@pytest.mark.parametrize(
  'shape, hidden, columns',
  [
    ((3, 100, 33), 70, 100),  # tokens
    ((3, 50, 33), 17, 10),  # a few
    ((2, 7, 9, 33), 100, 49),  # images
    ((1, 1, 1, 1), 1, 1),
    ((0, 2, 2, 4), 3, 5),
    ((2, 0, 4), 3, 5),
    ((1, 300, 800), 1700, 5),  # sums in several parts
    ((5, 7), 4, 3),
  ],
)
def test_results_and_gradients_equal_float64(shape, hidden, columns, backend):
  rows = *shape[:-1], columns
  sizes = (shape[-1], columns), (columns,)
  check(
    functools.partial(kernels.dense, backend=backend),
    plain_dense,
    *draw(rows, shape, *sizes),
  )
  sizes = (shape[-1], hidden), (hidden,), (hidden, columns), (columns,)
  check(
    functools.partial(kernels.mlp, backend=backend),
    plain_mlp,
    *draw(rows, shape, *sizes),
  )


def test_each_of_several_layers_has_its_gradients_under_vmap():
  shapes = (2, 150, 5), (2, 150, 6), (6, 9), (9,), (9, 5), (5,)
  arrays = draw(*((3, *shape) for shape in shapes))
  run = functools.partial(with_gradients, kernels.mlp)
  found = jax.jit(jax.vmap(run))(*arrays)
  for number in range(3):
    expected = run(*(array[number] for array in arrays))
    for array, single in zip(found, expected, strict=True):
      np.testing.assert_allclose(array[number], single, 1e-4, 1e-4)


def test_loop_that_recomputes_has_the_same_gradients():
  x, *weights = draw((2, 150, 6), (3, 6, 9), (3, 9), (3, 9, 6), (3, 6))

  def loss(weights, remat):
    block = jax.checkpoint(kernels.mlp) if remat else kernels.mlp
    y, _ = jax.lax.scan(lambda x, w: (x + block(x, *w), None), x, weights)
    return jnp.sum(jnp.sin(y))

  grad = jax.jit(jax.grad(loss), static_argnums=1)
  for one, other in zip(grad(weights, False), grad(weights, True), strict=True):
    np.testing.assert_allclose(one, other, 1e-5, 1e-5)


def test_bfloat16_sums_the_biases_gradients_in_float32():
  x = jnp.ones((4, 1024, 8), jnp.bfloat16)
  weights = jnp.ones((8, 2)), jnp.ones(2), jnp.ones((2, 3)), jnp.ones(3)

  def loss(*weights):
    return jnp.sum(kernels.mlp(x, *weights).astype(jnp.float32))

  gradients = jax.grad(loss, (0, 1, 2, 3))(*weights)
  assert {array.dtype for array in gradients} == {jnp.dtype(jnp.float32)}
  # Summed in bfloat16, 4,096 ones stop growing at 256.
  np.testing.assert_array_equal(gradients[3], np.full(3, 4096.0))


@needs_compiler
def test_cpus_compute_all_where_products_are_stored():
  shapes = (2, 150, 5), (2, 150, 6), (6, 9), (9,), (9, 5), (5,)
  run = jax.jit(functools.partial(with_gradients, kernels.mlp))
  compiled = run.lower(*draw(*shapes)).compile()
  text = compiled.as_text()
  assert text.count('custom_call_target="convmixer_product"') == 4
  assert text.count('custom_call_target="convmixer_linear_gradient"') == 2
  # What is kept between the passes, GELU and what it is of, and the gradient.
  hidden = 4 * 2 * 150 * 9
  memory = compiled.memory_analysis()
  assert memory.temp_size_in_bytes < 3 * hidden + 2**14


@needs_compiler
@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='cannot choose the CPUs here'
)
def test_results_are_bit_identical_for_any_number_of_threads():
  runs = [commands.run(['-c', PRINT_DIGEST, count]) for count in ('1', '999')]
  assert [run.returncode for run in runs] == [0, 0], runs
  assert runs[0].stdout == runs[1].stdout


def test_sharded_tokens_are_not_moved():
  found = json.loads(devices.run(PRINT_SHARDED, 4))
  assert found['kinds'] == ['all-reduce']
  assert found['foreign'] == 6 * (library.unavailable('linear') is None)
  assert found['error'] < 1e-4


@needs_compiler
def test_weights_may_have_another_dtype_than_images():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
  shapes = (5, 7), (7,), (7, 3), (3,)
  weights = [jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in shapes]

  def gradients(backend):
    def loss(*weights):
      hidden = kernels.dense(x, *weights[:2], backend=backend)
      y = kernels.mlp(x, *weights, backend=backend)
      return jnp.sum(jnp.sin(hidden)) + jnp.sum(jnp.sin(y))

    return jax.grad(loss, range(4))(*weights)

  for ours, plain in zip(gradients('cpu'), gradients('xla'), strict=True):
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(
      *(array.astype(jnp.float32) for array in (ours, plain)),
      rtol=0.02,
      atol=0.02,
    )


@needs_compiler
@pytest.mark.parametrize('backend', ['cpu', None])
@pytest.mark.parametrize('grid', [(3, 4), (12,)])
def test_exported_layer_takes_any_batch(grid, backend):
  def run(x, kernel, bias):
    return kernels.dense(x, kernel, bias, backend=backend)

  (batch,) = export.symbolic_shape('b')
  shapes = (batch, *grid, 5), (5, 7), (7,)
  # Exported programs need not keep the calls of kernels: JAX asks whether.
  call = export.DisabledSafetyCheck.custom_call(library.target('product'))
  exported = export.export(jax.jit(run), disabled_checks=[call])(
    *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
  )
  operands = jnp.ones((6, *grid, 5)), jnp.ones((5, 7)), jnp.ones(7)
  np.testing.assert_array_equal(exported.call(*operands), run(*operands))


def test_unknown_backend_is_refused():
  x, kernel, bias = draw((1, 4, 2), (2, 3), (3,))
  with pytest.raises(ValueError, match="backend 'cuda' is unknown; use one of"):
    kernels.dense(x, kernel, bias, backend='cuda')
