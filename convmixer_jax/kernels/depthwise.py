"""Depthwise convolution: the operation, its gradient, its implementations.

An implementation is a module with two functions: `correlate` gives the output
and `correlate_kernel` the gradients of kernel and bias. They suffice, for the
gradient of the input is a correlation with the kernel turned by 180 degrees.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax.kernels.cpu import depthwise as depthwise_cpu
from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.xla import depthwise as depthwise_xla
from convmixer_jax.kernels.xla import shift

_MODULES = {'native': depthwise_cpu, 'shift': shift, 'xla': depthwise_xla}
IMPLEMENTATIONS = tuple(_MODULES)

# The largest kernel for which cuDNN is expected to have fast depthwise kernels
# in NHWC, the only layout XLA uses on Hopper. Beyond, it is expected to take 20
# times as long. Not measured yet on a GPU with this code.
_LARGEST_OF_CUDNN = 7


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
    implementation: 'native' (C++ kernels for CPUs), 'shift' (shifted
      multiply-adds), 'xla' (a convolution of XLA's), or None: the best for the
      platform the computation is lowered for. On CPUs that is 'native' where
      it can be compiled, else 'shift'; on NVIDIA GPUs 'shift' for kernels
      larger than 7, else 'xla'; and 'xla' on all others.

  Returns:
    `[B, H, W, C]` of x's dtype, summed in float32. The gradients of kernel
    and bias have their own dtypes and are summed in float32, over devices
    too. Of bfloat16 images 'xla' on NVIDIA GPUs rounds each device's gradient
    of the kernel to bfloat16.

  Raises:
    ValueError: for shapes that do not fit or an unknown implementation.
    TypeError: for another dtype of x.
    RuntimeError: 'native' was asked for and cannot be compiled.
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


def best_on_gpu(size: int) -> str:
  """Returns the best implementation on NVIDIA GPUs for a kernel size.

  It only computes: no backend of JAX is started.

  Args:
    size: rows and columns of the kernel.
  """
  return 'xla' if size <= _LARGEST_OF_CUDNN else 'shift'


def best_by_platform(size: int) -> dict[str, str]:
  """Returns the best implementation for a kernel size.

  Args:
    size: rows and columns of the kernel.

  Returns:
    By JAX's name of a platform; 'default' is all others.
  """
  # Beside an accelerator a CPU has other work than compiling for itself.
  compiles = jax.default_backend() == 'cpu' and library.is_available(
    'depthwise', size
  )
  return {
    'cpu': 'native' if compiles else 'shift',
    'cuda': best_on_gpu(size),
    'default': 'xla',
  }


def _call(
  function: str, implementation: str | None, size: int, /, *operands, **sizes
):
  """Calls `function` of the implementation, or of the platform's best."""

  def of(name):
    return functools.partial(getattr(_MODULES[name], function), **sizes)

  if implementation is not None:
    return of(implementation)(*operands)
  best = {
    platform: of(name) for platform, name in best_by_platform(size).items()
  }
  return lax.platform_dependent(*operands, **best)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _depthwise_conv(x, kernel, bias, implementation):
  size = kernel.shape[0]
  kernel = kernel.astype(x.dtype)
  bias = None if bias is None else bias.astype(x.dtype)
  return _call(
    'correlate', implementation, size, x, kernel, bias, low=(size - 1) // 2
  )


def _forward(x, kernel, bias, implementation):
  return _depthwise_conv(x, kernel, bias, implementation), (x, kernel, bias)


def _backward(implementation, residuals, dy):
  x, kernel, bias = residuals
  size = kernel.shape[0]
  turned = kernel[::-1, ::-1].astype(x.dtype)
  dx = _call('correlate', implementation, size, dy, turned, None, low=size // 2)
  dkernel, dbias = _call(
    'correlate_kernel',
    implementation,
    size,
    x,
    dy,
    size=size,
    low=(size - 1) // 2,
  )
  dbias = None if bias is None else dbias.astype(bias.dtype)
  return dx, dkernel.astype(kernel.dtype), dbias


_depthwise_conv.defvjp(_forward, _backward)
