"""Refuses weights that cannot be those of a trained network, by value.

A single NaN makes every output NaN, and a negative variance that of its
channel: accuracy and exported files would be wrong without an error.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.errors import UserError

_LARGEST = float(jnp.finfo(jnp.bfloat16).max)  # 3.39e38, as in float32


def check_values(
  arrays: Mapping[str, Any], source: str, advice: str = 'give other weights'
) -> None:
  """Checks every number once; integers are left out.

  Args:
    arrays: by name, of NumPy or of JAX. One whose name ends in `running_var`,
      or in `var` below `batch_stats`, is a running variance.
    source: what they were read from, for the error.
    advice: what to do, for the error.

  Raises:
    UserError: values are NaN, infinite, too large for a compute dtype or, of a
      variance, negative. The message has the array's name and their number.
  """
  for name, array in arrays.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      continue
    for part in _parts(array):
      found = _find_bad(part, _is_variance(name))
      if found:
        raise UserError(
          f'{source} is not a trained network: {name} has {found} among its '
          f'{part.size:,} values; {advice}'
        )


def check_state(state: TrainState, source: str) -> None:
  """Checks a restored state of training; see `check_values`.

  Each process checks what its own devices have.

  Args:
    state: of arrays, which may be split over devices.
    source: the checkpoint, for the error.
  """
  parts = {
    name: getattr(state, name)
    for name in ('params', 'batch_stats', 'opt_state', 'ema')
  }
  check_values(
    by_name(parts),
    source,
    'remove this checkpoint to resume from an older one, or give a new '
    '--workdir',
  )


def by_name(variables: Any) -> dict[str, Any]:
  """Returns the arrays of a tree by path, as in `params/head/kernel`."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  }


def _parts(array: Any) -> Iterator[np.ndarray]:
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    for shard in array.addressable_shards:
      yield np.asarray(shard.data)
  else:
    yield np.asarray(array)


def _is_variance(name: str) -> bool:
  return name.endswith('running_var') or (
    name.startswith('batch_stats/') and name.endswith('/var')
  )


def _find_bad(array: np.ndarray, is_variance: bool) -> str | None:
  """Returns kinds and numbers of bad values; None if there are none."""
  if not array.size:
    return None
  low, high = float(array.min()), float(array.max())  # NaN if any is
  if -_LARGEST <= low and high <= _LARGEST and not (is_variance and low < 0):
    return None
  array = array.astype(np.float64)
  finite = array[np.isfinite(array)]
  counts = {
    'NaN': np.isnan(array).sum(),
    'infinite': np.isinf(array).sum(),
    'too large': (np.abs(finite) > _LARGEST).sum(),
    'negative': is_variance * (finite < 0).sum(),
  }
  kinds = [f'{count:,} {kind}' for kind, count in counts.items() if count]
  return ', '.join(kinds)
