"""What starts the runs of a sweep: processes here, or jobs of a scheduler."""

import os
import sys
from collections.abc import Sequence
from typing import Protocol

from convmixer_jax.sweeps.plan import Run, write_config


class Executor(Protocol):
  """Starts runs and knows which of them run.

  Attributes:
    ends_with_sweep: whether `stop` ends the runs.
  """

  ends_with_sweep: bool

  def room(self) -> int:
    """Returns how many runs may be started now."""
    ...

  def start(self, runs: Sequence[Run]) -> None:
    """Starts runs that have a config."""
    ...

  def states(self) -> dict[str, str]:
    """Returns the runs that have not ended, by name: 'training', 'queued'."""
    ...

  def poll(self) -> dict[str, int]:
    """Returns exit statuses, by name, of runs that ended since the last call.

    A negative one is the number of the signal that ended the process.
    """
    ...

  def stop(self) -> None:
    """Asks all runs to save their state and end; does not wait."""
    ...

  def describe_stop(self) -> str:
    """Returns what becomes of the runs when the sweep is stopped."""
    ...


def train_command(run: Run) -> list[str]:
  """Returns the command that trains or resumes a run; writes its config."""
  return [
    *(sys.executable, '-m', 'convmixer_jax', 'train'),
    f'--config={write_config(run)}',
    f'--workdir={run.directory}',
  ]


def environment() -> dict[str, str]:
  """Returns the environment in which this package is found, too."""
  package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  paths = [package, os.environ.get('PYTHONPATH', '')]
  return os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths))}
