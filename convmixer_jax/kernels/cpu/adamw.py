"""A step of AdamW by the C++ kernel of csrc/adamw.h, over what it reads.

It has to be available (`library.unavailable`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.under_vmap import except_under_vmap

Arrays = Sequence[jax.Array]


def step(
  *operands: Any, decays: tuple[float, ...], under_vmap: Callable[..., Any]
) -> tuple[Arrays, Arrays, Arrays, jax.Array, jax.Array]:
  """Returns what `kernels.adamw` does; `under_vmap` of the same operands."""

  def mapped_form(*operands, decays):
    del decays
    return under_vmap(*operands)

  return except_under_vmap(_step, mapped_form)(*operands, decays=decays)


def _step(
  gradients, params, first, second, numbers, also_finite, more, *, decays
):
  del more
  pieces = [array for arrays in gradients for array in arrays]
  operands = (numbers, also_finite, *pieces, *params, *first, *second)
  written = (*params, *first, *second)
  offset = len(operands) - len(written)
  results = jax.ffi.ffi_call(
    library.target('adamw'),
    [
      jax.ShapeDtypeStruct((3,), jnp.float32),
      jax.ShapeDtypeStruct((), jnp.bool_),
      *(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in written),
    ],
    input_output_aliases={offset + i: 2 + i for i in range(len(written))},
  )(
    *operands,
    counts=np.asarray([len(arrays) for arrays in gradients], np.int64),
    decays=np.asarray(decays, np.float32),
  )
  norms, skipped, *arrays = results
  count = len(params)
  return (
    arrays[:count],
    arrays[count : 2 * count],
    arrays[2 * count :],
    norms,
    skipped,
  )
