"""The pointwise product: a matrix product over the last axis."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.cpu import linear as linear_cpu


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['packed'],
  meta_fields=['columns'],
)
@dataclasses.dataclass(frozen=True)
class PackedKernel:
  """A kernel in the order of its use, for many products; see `pack`."""

  packed: jax.Array
  columns: int


def linear(
  x: jax.Array,
  kernel: jax.Array | PackedKernel,
  *,
  implementation: str | None = None,
) -> jax.Array:
  """Computes `x @ kernel` in the dtype of `x`.

  A 1 x 1 convolution, a patch embedding and a dense layer are all this. Sums
  run in float32, and so does the gradient of `kernel`: autodiff would give it
  the dtype of `x`, and a gradient in bfloat16 would be reduced across devices
  in bfloat16.

  On a CPU images in float32 are multiplied by kernels of our own, which are a
  tenth faster than XLA's. They are not for bfloat16, for which CPUs have
  instructions that only XLA uses.

  Args:
    x: `[..., I]`, float32 or bfloat16; images if `[B, H, W, I]`.
    kernel: `[I, O]`, the parameter in its own dtype; or of `pack`, for which no
      gradient is defined.
    implementation: 'native' or 'xla', or None for the fastest there is.

  Returns:
    `[..., O]`, dtype of `x`.
  """
  if isinstance(kernel, PackedKernel):
    return linear_cpu.multiply(x, kernel.packed, kernel.columns)
  return _linear(x, kernel, implementation)


def pack(
  kernel: jax.Array, dtype: jax.typing.DTypeLike, implementation: str | None
) -> jax.Array | PackedKernel:
  """Lays out a kernel for `linear` of many batches of images, all of `dtype`.

  It would be done anew for each: a thirtieth of the time of a small batch.

  Args:
    kernel: `[I, O]`.
    dtype: of the images.
    implementation: as in `linear`.

  Returns:
    The kernel as it is where nothing is to be gained.
  """
  if dtype != jnp.float32 or implementation == 'xla':
    return kernel
  if implementation == 'native' or _is_native_the_default():
    return PackedKernel(linear_cpu.pack(kernel), kernel.shape[1])
  return kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _linear(x, kernel, implementation):
  return _call('product', x, kernel.astype(x.dtype), implementation)


def _forward(x, kernel, implementation):
  return _linear(x, kernel, implementation), (x, kernel)


def _backward(implementation, saved, g):
  x, kernel = saved
  dx = _call('transposed_product', g, kernel.astype(g.dtype), implementation)
  # As matrices: XLA:CPU is slow to contract several axes at once.
  rows, g_rows = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
  dkernel = jnp.dot(
    _transposed(rows), g_rows, preferred_element_type=jnp.float32
  )
  return dx, dkernel.astype(kernel.dtype)


def _call(function, x, kernel, implementation):
  native, xla = getattr(linear_cpu, function), _BY_XLA[function]
  if x.ndim != 4 or x.dtype != jnp.float32 or implementation == 'xla':
    return xla(x, kernel)
  if implementation == 'native':
    return native(x, kernel)
  if _is_native_the_default():
    return lax.platform_dependent(x, kernel, cpu=native, default=xla)
  return xla(x, kernel)


def _is_native_the_default():
  return jax.default_backend() == 'cpu' and library.is_available('linear')


def _product(x, kernel):
  return jnp.dot(x, kernel, preferred_element_type=jnp.float32).astype(x.dtype)


def _transposed_product(x, kernel):
  rows = _product(x.reshape(-1, x.shape[-1]), _transposed(kernel))
  return rows.reshape(*x.shape[:-1], len(kernel))


@jax.jit  # outside of one, layouts belong to arrays
def _transposed(matrix):
  """Transposes; on a CPU bfloat16 in memory, as XLA multiplies it only so.

  Reading a matrix across, it converts bfloat16 to float32 first: half as fast;
  float32 is as fast across. On several devices the partitioner would gather
  what has its layout set.
  """
  if jax.device_count() > 1 or matrix.dtype == jnp.float32:
    return matrix.T

  def in_memory(matrix):
    return with_layout_constraint(matrix.T, Layout(major_to_minor=(0, 1)))

  return lax.platform_dependent(matrix, cpu=in_memory, default=jnp.transpose)


_linear.defvjp(_forward, _backward)

_BY_XLA = {
  'product': _product,
  'transposed_product': _transposed_product,
}
