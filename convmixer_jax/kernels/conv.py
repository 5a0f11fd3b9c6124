"""The convolution with any kernel and stride, as PyTorch pads it."""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch


def conv(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  padding: int = 0,
  backend: str | None = None,
) -> jax.Array:
  """Computes a convolution in the dtype of `x`, without bias.

  The padding is symmetric, whatever the size of the image: `padding='SAME'` of
  XLA pads (0, 1) for a kernel of 3 and stride 2. The gradient of `kernel` is
  summed and returned in float32: autodiff would give it the dtype of `x`, and a
  gradient in bfloat16 would be reduced across devices in bfloat16.

  Args:
    x: `[B, H, W, I]`, float32 or bfloat16.
    kernel: `[k, k, I, O]`, the parameter in its own dtype.
    stride: of both axes.
    padding: zeros on each of the four sides.
    backend: of float32: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or
      None: 'cpu' on CPUs if it can be compiled, else 'xla'. XLA computes what
      is in bfloat16.

  Returns:
    `[B, h, w, O]`, dtype of `x`, where h = (H + 2 padding - k) // stride + 1.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('conv', backend)
  return _conv(x, kernel, stride, padding, backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, stride, padding, backend):
  return dispatch.call(
    'conv',
    _backend_for(x, backend),
    *(x, kernel.astype(x.dtype)),
    stride=stride,
    padding=padding,
  )


def _backend_for(x, backend):
  return backend if x.dtype == jnp.float32 else 'xla'


def _forward(x, kernel, stride, padding, backend):
  return _conv(x, kernel, stride, padding, backend), (x, kernel)


def _backward(stride, padding, backend, saved, g):
  x, kernel = saved
  backend = _backend_for(x, backend)
  how = {'stride': stride, 'padding': padding}
  dx = dispatch.call(
    'conv_transposed', backend, g, kernel.astype(g.dtype), shape=x.shape, **how
  )
  dkernel = dispatch.call(
    'conv_kernel_gradient', backend, x, g, size=kernel.shape[0], **how
  )
  return dx, dkernel.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)
