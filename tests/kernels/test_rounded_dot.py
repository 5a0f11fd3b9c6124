"""Products that are rounded once: on GPUs by the product, else after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.kernels.xla.rounded_dot import rounded_dot

MATRICES = ((1,), (0,)), ((), ())


def draw(dtype):
  rng = np.random.default_rng(0)
  return (
    jnp.asarray(rng.normal(size=shape), dtype) for shape in ((9, 130), (130, 5))
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_result_is_the_exact_product_rounded_once(dtype):
  a, b = draw(dtype)
  found = jax.jit(lambda a, b: rounded_dot(a, b, MATRICES))(a, b)
  assert found.dtype == dtype
  exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
  np.testing.assert_allclose(
    np.asarray(found, np.float64),
    exact,
    rtol=float(jnp.finfo(dtype).eps) / 2 * 1.01,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  'platform, result',
  [('cuda', 'bf16'), ('cpu', 'f32'), ('tpu', 'f32')],
)
def test_only_on_gpus_the_product_itself_is_asked_for_bfloat16(
  platform, result
):
  a, b = draw('bfloat16')
  traced = jax.jit(lambda a, b: rounded_dot(a, b, MATRICES)).trace(a, b)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  (line,) = (line for line in text.splitlines() if 'dot_general' in line)
  assert line.rstrip().endswith(f'-> tensor<9x5x{result}>')


def test_gradient_through_it_is_that_of_the_product():
  a, b = draw('bfloat16')

  def total(a):
    return jnp.sum(rounded_dot(a, b, MATRICES).astype(jnp.float32))

  expected = np.asarray(b, np.float32).sum(axis=1)
  found = jax.jit(jax.grad(total))(a)
  np.testing.assert_allclose(
    np.asarray(found, np.float32), np.tile(expected, (9, 1)), rtol=2**-7
  )
