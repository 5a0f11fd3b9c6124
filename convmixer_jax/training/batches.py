"""The batches of a run on its devices, from wherever its images are."""

from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from convmixer_jax.data import pipeline
from convmixer_jax.data.batches import Batches
from convmixer_jax.distributed import sharding
from convmixer_jax.training.on_device.batches import TrainBatches
from convmixer_jax.training.setup import Setup


class SentBatches(Iterator[dict[str, jax.Array]]):
  """Global batches that the host makes and sends to the devices."""

  def __init__(self, batches: Batches, mesh: Mesh):
    """Sends nothing yet.

    Args:
      batches: this process's rows of each batch.
      mesh: the devices.
    """
    self._batches, self._mesh = batches, mesh

  def __next__(self) -> dict[str, jax.Array]:
    """Returns the next batch; see `Batches`."""
    return sharding.to_global(next(self._batches), self._mesh)

  def close(self) -> None:
    """Ends the threads and worker processes."""
    self._batches.close()


def open_train_batches(
  setup: Setup, first_step: int = 0
) -> SentBatches | TrainBatches:
  """Returns the global batches of training.

  Args:
    setup: of the run.
    first_step: number of the first batch.
  """
  if setup.device_images is not None:
    return setup.device_images.train_batches(first_step)
  batches = pipeline.train_batches(
    setup.train_source,
    setup.config,
    first_step=first_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    transform=setup.train_transform,
  )
  return SentBatches(batches, setup.mesh)
