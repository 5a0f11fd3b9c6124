"""Dense layers: a product with bias, alone or two with a GELU between them.

On CPUs in float32 bias and GELU are computed where a product is stored, the
slope of GELU too, and the gradient of a bias with that of the kernel, rather
than by passes over memory. A backend computes 'biased_linear' (see
`biased.py`), 'linear_transposed', 'gelu_linear', 'gelu_linear_transposed' and
'dense_gradients'; `xla/dense.py` documents the arguments.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.gelu import gelu
from convmixer_jax.kernels.linear import (
  call_on_tokens,
  has_own_kernels,
  linear,
)


def dense(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  *,
  backend: str | None = None,
) -> jax.Array:
  """Computes `x @ kernel + bias` in the dtype of `x`.

  The gradients of kernel and bias are summed in float32.

  Args:
    x: `[..., I]`, as in `linear`.
    kernel: `[I, O]`, float32.
    bias: `[O]`, float32.
    backend: as in `linear`.

  Returns:
    `[..., O]`, dtype of `x`; in bfloat16 the product is rounded too.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('linear', backend)
  if has_own_kernels('dense_gradients', backend, x, kernel):
    return _dense(x, kernel, bias, backend)
  product = linear(x, kernel, backend=backend)
  # In float32, so that the bias's gradient is not rounded before it is
  # summed over devices.
  return (product.astype(jnp.float32) + bias).astype(x.dtype)


def mlp(
  x: jax.Array,
  kernel1: jax.Array,
  bias1: jax.Array,
  kernel2: jax.Array,
  bias2: jax.Array,
  *,
  backend: str | None = None,
) -> jax.Array:
  """Computes two dense layers with an exact GELU between them.

  Args:
    x: `[..., I]`, as in `linear`.
    kernel1: `[I, H]`, float32.
    bias1: `[H]`, float32.
    kernel2: `[H, O]`, float32.
    bias2: `[O]`, float32.
    backend: as in `linear`.

  Returns:
    `[..., O]`, dtype of `x`.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('linear', backend)
  if has_own_kernels('dense_gradients', backend, x, kernel1):
    return _mlp(x, kernel1, bias1, kernel2, bias2, backend)
  y = gelu(dense(x, kernel1, bias1, backend=backend))
  return dense(y, kernel2, bias2, backend=backend)


def _biased(x, kernel, bias, activation, backend):
  operands = x, kernel.astype(x.dtype), bias.astype(jnp.float32), None
  return call_on_tokens(
    'biased_linear', backend, *operands, activation=activation
  )


def _gradients(x, kernel, bias, dy, backend):
  """Returns the gradients of kernel and bias, in their dtypes."""
  dkernel, dbias = call_on_tokens('dense_gradients', backend, x, dy)
  return dkernel.astype(kernel.dtype), dbias.astype(bias.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _dense(x, kernel, bias, backend):
  return _biased(x, kernel, bias, None, backend)


def _dense_forward(x, kernel, bias, backend):
  return _dense(x, kernel, bias, backend), (x, kernel, bias)


def _dense_backward(backend, saved, dy):
  x, kernel, bias = saved
  dx = call_on_tokens('linear_transposed', backend, dy, kernel.astype(x.dtype))
  return dx, *_gradients(x, kernel, bias, dy, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _mlp(x, kernel1, bias1, kernel2, bias2, backend):
  y = _biased(x, kernel1, bias1, 'gelu', backend)
  return _biased(y, kernel2, bias2, None, backend)


def _mlp_forward(x, kernel1, bias1, kernel2, bias2, backend):
  y, before = call_on_tokens(
    *('gelu_linear', backend, x),
    *(kernel1.astype(x.dtype), bias1.astype(jnp.float32)),
  )
  saved = x, kernel1, bias1, kernel2, bias2, y, before
  return _biased(y, kernel2, bias2, None, backend), saved


def _mlp_backward(backend, saved, g):
  x, kernel1, bias1, kernel2, bias2, y, before = saved
  dbefore = call_on_tokens(
    *('gelu_linear_transposed', backend),
    *(g, kernel2.astype(g.dtype), before),
  )
  dx = call_on_tokens(
    'linear_transposed', backend, dbefore, kernel1.astype(g.dtype)
  )
  return (
    dx,
    *_gradients(x, kernel1, bias1, dbefore, backend),
    *_gradients(y, kernel2, bias2, g, backend),
  )


_dense.defvjp(_dense_forward, _dense_backward)
_mlp.defvjp(_mlp_forward, _mlp_backward)
