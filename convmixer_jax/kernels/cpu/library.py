"""Makes the C++ kernels in csrc/ known to XLA, once they are compiled."""

import ctypes
import functools

import jax
from absl import logging

from convmixer_jax.kernels.cpu.build import build

_FUNCTIONS = {
  'depthwise': ('correlate', 'correlate_kernel', 'mix'),
  'linear': ('pack', 'multiply'),
  'norm': ('moments', 'products', 'affine', 'affine_residual', 'gradient'),
}


ACTIVATION_NUMBERS = {'gelu': 0, 'relu': 1}


def target(function: str, kernel_size: int | None = None) -> str:
  """Returns the name by which XLA calls a function of the kernels."""
  suffix = '' if kernel_size is None else f'_{kernel_size}'
  return f'convmixer_{function}{suffix}'


@functools.cache
def load(source: str, kernel_size: int | None = None) -> None:
  """Makes the functions of a source known to XLA, compiling it if need be.

  Args:
    source: 'depthwise', 'linear' or 'norm'.
    kernel_size: of 'depthwise', which is compiled for each.

  Raises:
    RuntimeError: it cannot be compiled or loaded; says why.
  """
  try:
    library = ctypes.CDLL(str(build(source, kernel_size)))
  except OSError as error:
    raise RuntimeError(f'{error}; set $CONVMIXER_JAX_CACHE') from error
  for function in _FUNCTIONS[source]:
    jax.ffi.register_ffi_target(
      target(function, kernel_size),
      jax.ffi.pycapsule(getattr(library, target(function))),
      'cpu',
    )


@functools.cache
def is_available(source: str, kernel_size: int | None = None) -> bool:
  """Whether `load` works; the first time it does not, a warning says why."""
  try:
    load(source, kernel_size)
  except RuntimeError as error:
    logging.log_first_n(
      logging.WARNING,
      'the kernels for CPUs: %s. Until then it runs several times slower.',
      1,
      error,
    )
    return False
  return True
