"""One pass over images on all devices: of every evaluation and prediction."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from convmixer_jax.data.batches import HostBatch
from convmixer_jax.distributed import sharding

_ON_DEVICES = ('image', 'label', 'mask')


def run_batches(
  function: Callable[[dict[str, jax.Array]], Any],
  batches: Iterable[HostBatch],
  mesh: Mesh,
  batch_size: int,
) -> Iterator[tuple[HostBatch, Any]]:
  """Applies a function to every batch, on all devices of all processes.

  All batches get one shape, so that the function is compiled once. The devices
  work on the next batch while the caller handles the one it was given.

  Args:
    function: jitted, of a global batch with those of `image`, `label` and
      `mask` that the batches have, split over the devices.
    batches: this process's rows of each batch: `image` `[b, H, W, C]`, and
      optionally `label` and `mask`, `[b, ...]`; the last one may have fewer
      rows if there is one process. Other entries stay on the host.
    mesh: the devices.
    batch_size: rows of a batch on all processes.

  Returns:
    For each batch: the batch as it was given, besides the rows of zeros and the
    `mask` that `pad` adds, and what the function returned for it, on the host.
  """
  rows = batch_size // jax.process_count()

  def results():
    for batch in batches:
      padded = pad(batch, rows)
      arrays = {key: padded[key] for key in _ON_DEVICES if key in padded}
      yield padded, function(sharding.to_global(arrays, mesh))

  return _fetch(results())


def fetch_outputs(
  function: Callable[[dict[str, jax.Array]], Any],
  batches: Iterable[dict[str, jax.Array]],
) -> Iterator[Any]:
  """Applies a function to global batches; see `run_batches`.

  Returns:
    What the function returned for each batch, on the host.
  """
  results = ((None, function(batch)) for batch in batches)
  return (outputs for _, outputs in _fetch(results))


def _fetch(results):
  """Yields pairs with the second fetched, once the next is under way."""
  pending = None
  for result in results:
    if pending is not None:
      yield pending[0], jax.device_get(pending[1])
    pending = result
  if pending is not None:
    yield pending[0], jax.device_get(pending[1])


def pad(batch: HostBatch, rows: int) -> HostBatch:
  """Returns a batch filled up with zeros, and with a `mask` of its own rows.

  Args:
    batch: `image` and optionally `label` and `mask`, arrays of at most `rows`
      rows.
    rows: of the result. Other entries stay as they are.
  """
  missing = rows - len(batch['image'])
  mask = batch.get('mask', np.ones(len(batch['image']), np.float32))
  batch = batch | {'mask': mask}
  if not missing:
    return batch

  def fill(array):
    zeros = np.zeros((missing, *array.shape[1:]), array.dtype)
    return np.concatenate([array, zeros])

  return batch | {key: fill(batch[key]) for key in _ON_DEVICES if key in batch}
