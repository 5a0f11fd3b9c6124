"""A step of AdamW, unless it is not finite, as one operation.

A backend computes 'adamw'.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.kernels import dispatch

Arrays = Sequence[jax.Array]
Step = tuple[Arrays, Arrays, Arrays, jax.Array, jax.Array]

# The numbers of a step, in the order in which kernels read them.
NUMBERS = (
  *('keep_first', 'add_first', 'keep_second', 'add_second'),
  *('unbias_first', 'unbias_second', 'epsilon', 'learning_rate'),
  'clip_norm',
)


def adamw(
  separate: Callable[..., Step],
  gradients: Sequence[Arrays],
  params: Arrays,
  first: Arrays,
  second: Arrays,
  numbers: dict[str, jax.typing.ArrayLike],
  also_finite: jax.Array,
  more: Any,
  *,
  decays: tuple[float, ...],
) -> Step:
  """Takes a step, of float32 arrays that each device has as a whole.

  The new parameters are those of `optax.adamw`, after
  `optax.clip_by_global_norm`. All stay as they are if the norm of gradient or
  update, or `also_finite`, is not finite.

  The kernel for CPUs reads the arrays twice, or the gradients three times if
  they are clipped, and writes over them, where XLA:CPU needs twice as many
  passes over memory. It has no derivatives.

  Args:
    separate: computes the same from operations of optax, wherever there is no
      kernel, and under `jax.vmap`. It takes all operands but itself, with
      `numbers` as an array.
    gradients: for each parameter a tuple with its gradient, or with one array
      for each index of its leading axis.
    params: of any shapes.
    first: the first moments, like `params`.
    second: the second moments, like `params`.
    numbers: float32 scalars by the names in `NUMBERS`: the factors of each
      moment's old and new terms; those of the moments that undo their bias;
      and the norm that the gradient is clipped to, 0 for none.
    also_finite: float32 scalar.
    more: arrays that `separate` alone needs.
    decays: the weight decay of each parameter.

  Returns:
    The new `params`, `first` and `second`; the norms of the gradient before
    clipping, of the update and of the new parameters, float32 `[3]`; and
    whether all stayed as they were, a boolean scalar.
  """
  array = jnp.stack([jnp.float32(numbers[name]) for name in NUMBERS])
  operands = (gradients, params, first, second, array, also_finite, more)
  return dispatch.call_fused(
    *('adamw', None, separate, *operands), decays=decays, under_vmap=separate
  )


def has_adamw() -> bool:
  """Returns whether this process has a kernel for `adamw`."""
  return bool(dispatch.fused_backends('adamw', None, (), {}))
