"""Compiles the C++ kernels in csrc/ and registers them with XLA."""

import ctypes
import functools

import jax

from convmixer_jax.kernels.cpu.build import build

FUNCTIONS = {
  'adamw': ('adamw',),
  'attention': ('attention', 'attention_forward', 'attention_gradient'),
  'batch_norm': (
    *('batch_norm_sums', 'batch_norm_affine'),
    *('batch_norm_products', 'batch_norm_gradient'),
  ),
  'depthwise': ('correlate', 'kernel_gradient', 'fused_mixer'),
  'layer_norm': ('layer_norm', 'layer_norm_gradient'),
  'linear': (
    *('pack', 'multiply', 'product'),
    *('linear_gradient', 'conv', 'conv_transposed', 'conv_gradient'),
  ),
  'max_pool': ('max_pool', 'max_pool_gradient'),
  'norm': ('moments', 'products', 'affine', 'affine_residual', 'gradient'),
  'stored': ('stored',),
  'transpose': ('transpose',),
}

# None only where the sums of products are computed.
ACTIVATION_NUMBERS = {'gelu': 0, 'relu': 1, None: 2}


def target(function: str, kernel_size: int | None = None) -> str:
  """Returns the name by which XLA calls a function of the kernels."""
  suffix = '' if kernel_size is None else f'_{kernel_size}'
  return f'convmixer_{function}{suffix}'


@functools.cache
def load(source: str, kernel_size: int | None = None) -> None:
  """Registers the functions of a source with XLA, after compiling it if needed.

  Args:
    source: a key of `FUNCTIONS`.
    kernel_size: for 'depthwise', which is compiled for each; else None.

  Raises:
    RuntimeError: it cannot be compiled or loaded; says why.
  """
  try:
    library = ctypes.CDLL(str(build(source, kernel_size)))
  except OSError as error:
    raise RuntimeError(f'{error}; set $CONVMIXER_JAX_CACHE') from error
  for function in FUNCTIONS[source]:
    jax.ffi.register_ffi_target(
      target(function, kernel_size),
      jax.ffi.pycapsule(getattr(library, target(function))),
      'cpu',
    )


@functools.cache
def unavailable(source: str, kernel_size: int | None = None) -> str | None:
  """Returns why `load` fails, or None if it does not; it is tried once."""
  try:
    load(source, kernel_size)
  except RuntimeError as error:
    return str(error)
  return None
