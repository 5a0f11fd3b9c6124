"""Products and convolutions with what follows them: bias, residual, activation.

On CPUs that is computed where the product is stored, rather than by passes over
memory. A backend computes 'biased_linear', 'biased_conv' and, if it has
'linear_packed', 'biased_packed'; `xla/biased.py` documents the arguments.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.conv import conv
from convmixer_jax.kernels.linear import PackedKernel, call_on_tokens, linear
from convmixer_jax.kernels.xla.biased import finish


def biased_linear(
  x: jax.Array,
  kernel: jax.Array | PackedKernel,
  bias: jax.Array | None,
  residual: jax.Array | None = None,
  *,
  activation: str | None = None,
  backend: str | None = None,
) -> jax.Array:
  """Computes `activation(x @ kernel + bias + residual)`.

  It is for inference: its gradient is that of the operations one by one.

  Args:
    x: `[..., I]`, as in `linear`.
    kernel: `[I, O]`, or of `pack_kernel`, as there.
    bias: `[O]`, float32, or None.
    residual: `[..., O]`, dtype of `x`, or None.
    activation: 'gelu' (exact), 'relu' or None.
    backend: as there.

  Returns:
    `[..., O]`, dtype of `x`; in bfloat16 the product is rounded too.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('biased_linear', backend)
  if not isinstance(kernel, PackedKernel):
    return _linear(x, kernel, bias, residual, activation, backend)
  return call_on_tokens(
    'biased_packed',
    kernel.backend,
    x,
    kernel.packed,
    _in_float32(bias),
    residual,
    columns=kernel.columns,
    activation=activation,
  )


def biased_conv(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None = None,
  *,
  stride: int = 1,
  padding: int = 0,
  activation: str | None = None,
  backend: str | None = None,
) -> jax.Array:
  """Computes `activation(convolution + bias + residual)`.

  It is for inference, as `biased_linear`, which has the other arguments.

  Args:
    x: `[B, H, W, I]`, as in `conv`.
    kernel: `[k, k, I, O]`.
    bias: `[O]`, float32, or None.
    residual: like the result, or None.
    stride: of both axes.
    padding: zeros on each of the four sides.
    activation: 'gelu' (exact), 'relu' or None.
    backend: as in `conv`.

  Returns:
    `[B, h, w, O]`, dtype of `x`.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('biased_conv', backend)
  how = stride, padding, activation, backend
  return _conv(x, kernel, bias, residual, *how)


def _in_float32(bias):
  return None if bias is None else bias.astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _linear(x, kernel, bias, residual, activation, backend):
  operands = x, kernel.astype(x.dtype), _in_float32(bias), residual
  return call_on_tokens(
    'biased_linear', backend, *operands, activation=activation
  )


def _linear_forward(x, kernel, bias, residual, activation, backend):
  def one_by_one(x, kernel, bias, residual):
    y = linear(x, kernel, backend=backend)
    return finish(y, bias, residual, activation)

  return jax.vjp(one_by_one, x, kernel, bias, residual)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7))
def _conv(x, kernel, bias, residual, stride, padding, activation, backend):
  return dispatch.call(
    'biased_conv',
    backend if x.dtype == jnp.float32 else 'xla',
    *(x, kernel.astype(x.dtype), _in_float32(bias), residual),
    stride=stride,
    padding=padding,
    activation=activation,
  )


def _conv_forward(
  x, kernel, bias, residual, stride, padding, activation, backend
):
  def one_by_one(x, kernel, bias, residual):
    y = conv(x, kernel, stride=stride, padding=padding, backend=backend)
    return finish(y, bias, residual, activation)

  return jax.vjp(one_by_one, x, kernel, bias, residual)


def _backward(*arguments):
  *_, pull, g = arguments
  return pull(g)


_linear.defvjp(_linear_forward, _backward)
_conv.defvjp(_conv_forward, _backward)
