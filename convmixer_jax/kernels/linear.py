"""The pointwise product: a matrix product over the last axis.

A backend computes 'linear', 'linear_transposed' and 'linear_kernel_gradient',
and if it has another layout for kernels, 'linear_pack' and 'linear_packed'.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch

# Packing a kernel takes as long as multiplying 25 to 50 tokens with it, and the
# kernels for CPUs save a tenth.
_FEWEST_TOKENS = 256


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['packed'],
  meta_fields=['columns', 'backend'],
)
@dataclasses.dataclass(frozen=True)
class PackedKernel:
  """A kernel in a backend's own layout, for many products.

  Attributes:
    packed: in an order that only the backend knows; see `pack_kernel`.
    columns: O of the kernel `[I, O]`.
    backend: that packed it, and multiplies with it.
  """

  packed: jax.Array
  columns: int
  backend: str


def linear(
  x: jax.Array,
  kernel: jax.Array | PackedKernel,
  *,
  backend: str | None = None,
) -> jax.Array:
  """Computes `x @ kernel` in the dtype of `x`.

  A 1 x 1 convolution, a patch embedding and a dense layer are all this. Sums
  run in float32, and so does the gradient of `kernel`: autodiff would give it
  the dtype of `x`, and a gradient in bfloat16 would be reduced across devices
  in bfloat16.

  A backend's own kernels multiply images and tokens in float32 only; XLA
  computes all other products, whatever the backend. On CPUs they take a tenth
  less time than XLA's, the gradient of a small kernel a quarter less. For
  bfloat16, CPUs have instructions that only XLA uses.

  Args:
    x: `[..., I]`, float32 or bfloat16; images if `[B, H, W, I]`, tokens if
      `[B, N, I]`.
    kernel: `[I, O]`, the parameter in its own dtype; or of `pack_kernel`, for
      which no gradient is defined.
    backend: 'cpu' (C++ kernels for CPUs), 'xla' (plain JAX), or None: 'cpu' on
      CPUs if it can be compiled, and unless there are only a few tokens; else
      'xla'.

  Returns:
    `[..., O]`, dtype of `x`.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('linear', backend)
  if isinstance(kernel, PackedKernel):
    return call_on_tokens(
      'linear_packed', kernel.backend, x, kernel.packed, columns=kernel.columns
    )
  return _linear(x, kernel, backend)


def pack_kernel(
  kernel: jax.Array, dtype: jax.typing.DTypeLike, backend: str | None = None
) -> jax.Array | PackedKernel:
  """Lays out a kernel for `linear` of many batches of one dtype.

  Otherwise each call does it again, which takes a thirtieth of the time of a
  small batch.

  Args:
    kernel: `[I, O]`.
    dtype: of the batches, of images or tokens.
    backend: as in `linear`.

  Returns:
    The kernel itself, if another layout would not help.

  Raises:
    ValueError: for an unknown backend.
    RuntimeError: backend is 'cpu', and it cannot be compiled.
  """
  dispatch.check_backend('linear', backend)
  if dtype != jnp.float32:
    return kernel
  if backend is None:
    # Only CPUs have a layout of their own.
    images = jax.ShapeDtypeStruct((1, 1, 1, kernel.shape[0]), dtype)
    defaults = dispatch.default_backends('linear', (images, kernel), {})
    backend = defaults.get('cpu', defaults['default'])
  if backend not in dispatch.backends_of('linear_pack'):
    return kernel
  packed = dispatch.call('linear_pack', backend, kernel)
  return PackedKernel(packed, kernel.shape[1], backend)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _linear(x, kernel, backend):
  return call_on_tokens('linear', backend, x, kernel.astype(x.dtype))


def _forward(x, kernel, backend):
  return _linear(x, kernel, backend), (x, kernel)


def _backward(backend, saved, g):
  x, kernel = saved
  dx = call_on_tokens('linear_transposed', backend, g, kernel.astype(g.dtype))
  dkernel = call_on_tokens('linear_kernel_gradient', backend, x, g)
  return dx, dkernel.astype(kernel.dtype)


def call_on_tokens(
  operation: str,
  backend: str | None,
  x: jax.Array,
  *others: jax.Array | None,
  **static: Any,
) -> Any:
  """Computes an operation of images, of which tokens may take the place.

  Args:
    operation: see `dispatch.call`.
    backend: as in `linear`. XLA computes what a backend's own kernels do not.
    x: `[..., C]`; images if `[B, H, W, C]`, tokens if `[B, N, C]`.
    *others: with as many axes if they are like x; or of another number, or
      None.
    **static: the operation's other arguments.

  Returns:
    What the operation returns; of what is like images, tokens for tokens.
  """
  if x.ndim not in (3, 4) or x.dtype != jnp.float32:
    return dispatch.call(operation, 'xla', x, *others, **static)
  if x.ndim == 4:
    return dispatch.call(operation, backend, x, *others, **static)
  if backend is None and _are_few(x):
    backend = 'xla'
  # Tokens are images of one column.
  operands = [
    array[:, :, None] if array is not None and array.ndim == 3 else array
    for array in (x, *others)
  ]
  results = dispatch.call(operation, backend, *operands, **static)
  return jax.tree.map(
    lambda array: array[:, :, 0] if array.ndim == 4 else array, results
  )


def has_own_kernels(
  operation: str, backend: str | None, x: jax.Array, *others: jax.Array
) -> bool:
  """Returns whether other kernels than XLA's may compute an operation.

  Args:
    operation: of images, of which tokens may take the place.
    backend: as in `linear`.
    x: as there.
    *others: the operation's other operands, or arrays that stand for them.
  """
  if x.ndim not in (3, 4) or x.dtype != jnp.float32 or backend == 'xla':
    return False
  if backend is not None:
    return True
  if x.ndim == 3 and _are_few(x):
    return False
  defaults = dispatch.default_backends(operation, (x, *others), {})
  return set(defaults.values()) != {'xla'}


def _are_few(tokens):
  count = tokens.shape[0] * tokens.shape[1]
  # The batch of an exported program may be a symbol, of any size.
  return isinstance(count, int) and count < _FEWEST_TOKENS


_linear.defvjp(_forward, _backward)
