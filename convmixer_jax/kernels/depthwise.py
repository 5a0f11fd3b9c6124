"""Depthwise convolution and its gradient.

A backend computes 'depthwise_conv', the output, and
'depthwise_kernel_gradient', the gradients of kernel and bias;
`xla/depthwise.py` documents the arguments. The gradient of the input needs no
third function: it is a depthwise convolution with the kernel rotated by 180
degrees.
"""

import functools

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch


def depthwise_conv(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  backend: str | None = None,
) -> jax.Array:
  """Convolves each channel with its own kernel: stride 1, "same" padding.

  Pads with (k - 1) // 2 zeros before and k // 2 after, as PyTorch's
  `padding='same'` does. "Convolution" is a correlation, as everywhere in deep
  learning.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    kernel: `[k, k, C]`, float32 or bfloat16; rounded to x's dtype.
    bias: `[C]` or None; like kernel.
    backend: 'cpu' (C++ kernels for CPUs), 'cuda' (kernels for NVIDIA GPUs, for
      bfloat16), 'shift' (shifted multiply-adds), 'xla' (XLA's convolution), or
      None: the best for the platform that the computation is lowered for. On
      CPUs that is 'cpu' if it can be compiled, else 'shift'; on NVIDIA GPUs
      'cuda' if it can, else 'shift' for kernels larger than 7, else 'xla'; and
      'xla' on all others.

  Returns:
    `[B, H, W, C]` of x's dtype, summed in float32. The gradients of kernel
    and bias have their own dtypes and are summed in float32, over devices
    too. If the images are bfloat16, 'xla' on NVIDIA GPUs rounds each device's
    gradient of the kernel to bfloat16.

  Raises:
    ValueError: for shapes that do not fit or an unknown backend.
    TypeError: for another dtype of x.
    RuntimeError: backend is 'cpu' or 'cuda', and cannot be used here.
  """
  dispatch.check_backend('depthwise_conv', backend)
  check_operands(x, kernel, bias)
  return _depthwise_conv(x, kernel, bias, backend)


def check_operands(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> None:
  """Raises ValueError or TypeError as `depthwise_conv` does."""
  if x.dtype not in (jnp.float32, jnp.bfloat16):
    raise TypeError(
      f'depthwise_conv: x is {x.dtype}; cast it to float32 or bfloat16'
    )
  channels = x.shape[-1] if x.ndim == 4 else None
  if channels is None or kernel.shape != (*kernel.shape[:1] * 2, channels):
    raise ValueError(
      f'depthwise_conv: x {x.shape} and kernel {kernel.shape} do not fit; '
      'give [B, H, W, C] and [k, k, C]'
    )
  if bias is not None and bias.shape != (channels,):
    raise ValueError(
      f'depthwise_conv: bias {bias.shape} does not fit x {x.shape}; '
      f'give [{channels}]'
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _depthwise_conv(x, kernel, bias, backend):
  size = kernel.shape[0]
  kernel = kernel.astype(x.dtype)
  bias = None if bias is None else bias.astype(x.dtype)
  return dispatch.call(
    'depthwise_conv', backend, x, kernel, bias, pad_before=(size - 1) // 2
  )


def _forward(x, kernel, bias, backend):
  return _depthwise_conv(x, kernel, bias, backend), (x, kernel, bias)


def _backward(backend, residuals, dy):
  x, kernel, bias = residuals
  size = kernel.shape[0]
  rotated = kernel[::-1, ::-1].astype(x.dtype)
  dx = dispatch.call(
    'depthwise_conv', backend, dy, rotated, None, pad_before=size // 2
  )
  dkernel, dbias = dispatch.call(
    'depthwise_kernel_gradient',
    backend,
    x,
    dy,
    size=size,
    pad_before=(size - 1) // 2,
  )
  dbias = None if bias is None else dbias.astype(bias.dtype)
  return dx, dkernel.astype(kernel.dtype), dbias


_depthwise_conv.defvjp(_forward, _backward)
