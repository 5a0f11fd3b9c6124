"""Depthwise convolution: the operation, its gradient, its implementations.

An implementation is a module with two functions, `correlate` and
`correlate_kernel`. They suffice: the gradient of the input is a correlation
with the kernel turned by 180 degrees.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.ops import shift, xla

_MODULES = {'xla': xla, 'shift': shift}
IMPLEMENTATIONS = tuple(_MODULES)


def depthwise_conv(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  implementation: str | None = None,
) -> jax.Array:
  """Convolves each channel with a kernel of its own: stride 1, "same".

  Pads with (k - 1) // 2 zeros before and k // 2 after, as PyTorch's
  `padding='same'` does. "Convolution" is a correlation, as everywhere in deep
  learning.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    kernel: `[k, k, C]`, float32 or bfloat16; rounded to x's dtype.
    bias: `[C]` or None; like kernel.
    implementation: 'xla' (a convolution of XLA's), 'shift' (shifted
      multiply-adds), or None: the fastest for the platform the computation is
      lowered for.

  Returns:
    `[B, H, W, C]` of x's dtype, summed in float32. The gradients of kernel
    and bias have their own dtypes and are summed in float32, over devices
    too.

  Raises:
    ValueError: for shapes that do not fit or an unknown implementation.
    TypeError: for another dtype of x.
  """
  if implementation is not None and implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'depthwise_conv: implementation {implementation!r} is unknown; '
      f'use one of {", ".join(IMPLEMENTATIONS)}, or None'
    )
  _check(x, kernel, bias)
  return _depthwise_conv(x, kernel, bias, implementation)


def _check(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> None:
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


def _call(function: str, implementation: str | None, *operands, **sizes):
  """Calls `function` of the implementation, or of the platform's best."""

  def of(name):
    return functools.partial(getattr(_MODULES[name], function), **sizes)

  if implementation is not None:
    return of(implementation)(*operands)
  return lax.platform_dependent(*operands, cpu=of('shift'), default=of('xla'))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _depthwise_conv(x, kernel, bias, implementation):
  low = (kernel.shape[0] - 1) // 2
  kernel = kernel.astype(x.dtype)
  bias = None if bias is None else bias.astype(x.dtype)
  return _call('correlate', implementation, x, kernel, bias, low=low)


def _forward(x, kernel, bias, implementation):
  return _depthwise_conv(x, kernel, bias, implementation), (x, kernel, bias)


def _backward(implementation, residuals, dy):
  x, kernel, bias = residuals
  size = kernel.shape[0]
  low = (size - 1) // 2
  turned = kernel[::-1, ::-1].astype(x.dtype)
  dx = _call('correlate', implementation, dy, turned, None, low=size - 1 - low)
  dkernel = _call('correlate_kernel', implementation, x, dy, size=size, low=low)
  dbias = None
  if bias is not None:
    dbias = dy.astype(jnp.float32).sum((0, 1, 2)).astype(bias.dtype)
  return dx, dkernel.astype(kernel.dtype), dbias


_depthwise_conv.defvjp(_forward, _backward)
