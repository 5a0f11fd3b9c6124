"""Set-up of a run that keeps nothing: for trying out a config."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import ml_collections

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.training import initialize
from convmixer_jax.training.batches import open_train_batches
from convmixer_jax.training.setup import Setup, set_up


@contextlib.contextmanager
def scratch_setup(config: ml_collections.ConfigDict) -> Iterator[Setup]:
  """Sets a run up whose directory does not exist, and is never made.

  Args:
    config: the whole config.

  Raises:
    UserError: see `set_up`.
  """
  with tempfile.TemporaryDirectory(prefix='convmixer_') as scratch:
    yield set_up(config, str(pathlib.Path(scratch) / 'run'))


def create_state(setup: Setup) -> TrainState:
  """Returns the state of step 0, with the pretrained weights if there are."""
  return setup.trainer.create_state(
    initialize.shard_pretrained(setup.pretrained, setup.trainer.state)
  )


@contextlib.contextmanager
def open_batches(
  setup: Setup, first_step: int = 0
) -> Iterator[Iterator[dict[str, jax.Array]]]:
  """Yields the training batches, on the devices.

  Args:
    setup: of the run.
    first_step: number of the first batch.
  """
  with contextlib.closing(open_train_batches(setup, first_step)) as batches:
    yield batches
