"""What is known of a run while its sweep runs."""

import dataclasses
import time

from convmixer_jax.sweeps.plan import Run
from convmixer_jax.sweeps.progress import Progress, training_seconds

_TELLING = 0.05  # share of a run, after which its time is estimated


@dataclasses.dataclass
class Entry:
  """What is known of a run.

  Attributes:
    run: the run.
    state: 'waiting', 'queued', 'training', 'in use' by another process,
      'complete', 'failed', or 'not chosen' if its row will get no value.
    progress: from its files.
    error: the line by which it failed; '' if it did not.
    started: when it was last started here, by `time.monotonic`; 0 if not.
    share: that was done at that time.
    saved_step: of the newest checkpoint at that time.
    seconds: of all its starts that have ended here.
    tries: starts in a row that ended without a new checkpoint.
    not_before: when it may be started, by `time.monotonic`.
    log_start: bytes of its log before the last start.
    read_at: when its files were read, by `time.monotonic`.
  """

  run: Run
  state: str = 'waiting'
  progress: Progress = Progress()  # noqa: RUF009 (it is frozen)
  error: str = ''
  started: float = 0.0
  share: float = 0.0
  saved_step: int = 0
  seconds: float = 0.0
  tries: int = 0
  not_before: float = 0.0
  log_start: int = 0
  read_at: float = 0.0

  @property
  def is_open(self) -> bool:
    """Whether there is something left to do."""
    return self.state not in ('complete', 'failed', 'not chosen')

  def total_seconds(self) -> float | None:
    """Returns how long the run takes from its start; None if not known."""
    done = self.progress.share - self.share
    if self.started and done > _TELLING:
      elapsed = time.monotonic() - self.started
      return elapsed / done
    if self.progress.is_complete:
      seconds = self.seconds or training_seconds(self.progress.rows)
      return seconds if seconds == seconds else None
    return None
