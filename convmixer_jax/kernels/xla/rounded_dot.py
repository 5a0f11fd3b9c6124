"""Products whose sums run in float32 and whose results are rounded once."""

import jax
import jax.numpy as jnp
from jax import lax


def rounded_dot(
  a: jax.Array, b: jax.Array, dimension_numbers: lax.DotDimensionNumbers
) -> jax.Array:
  """Computes `lax.dot_general(a, b, dimension_numbers)`, in a's dtype.

  Args:
    a: float32 or bfloat16.
    b: of the same dtype.
    dimension_numbers: as `lax.dot_general` takes them.
  """
  if a.dtype == jnp.float32:
    return lax.dot_general(a, b, dimension_numbers)

  def multiply(dtype):
    return lambda a, b: lax.dot_general(
      a, b, dimension_numbers, preferred_element_type=dtype
    ).astype(a.dtype)

  # cuBLAS sums in float32 in any case. Asked for a float32 result it writes
  # that, and XLA reads it again to round it, for half the time of the product:
  # results/h100. Elsewhere XLA rounds what it has not yet written.
  return lax.platform_dependent(
    a, b, cuda=multiply(a.dtype), default=multiply(jnp.float32)
  )
