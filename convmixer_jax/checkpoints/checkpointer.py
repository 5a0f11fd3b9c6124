"""Writes checkpoints in the background, by Orbax: the last and the best."""

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from convmixer_jax.checkpoints import checksums, verify
from convmixer_jax.checkpoints.step_directories import (
  DIRECTORY,
  describe_error,
  find_steps,
)
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.distributed.watchdog import lost_others
from convmixer_jax.errors import UserError

# The metric by which a checkpoint is the best: of networks that give one class,
# and of those that give several. A run has one of them.
_BEST_BY = ('eval_accuracy', 'eval_mean_average_precision')
_UNFINISHED = ocp.path.atomicity.TMP_DIR_SUFFIX


def main_metric(metrics: Mapping[str, float]) -> float | None:
  """Returns the metric of an evaluation that the best checkpoint has most of.

  None without one, or if it is nan.
  """
  for name in _BEST_BY:
    if name in metrics and not math.isnan(metrics[name]):
      return float(metrics[name])
  return None


class Progress(NamedTuple):
  """What the loop needs besides the state, to resume bit for bit.

  Attributes:
    window: the sums of metrics not yet reported, a tree of scalars.
    skipped_in_a_row: how many of the last steps were not finite.
  """

  window: Any
  skipped_in_a_row: int = 0


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, without its own handling of preemption."""

  def reached_preemption(self, step: int) -> bool:
    """Returns False: the training loop asks for preemption itself.

    Orbax would ask jax.distributed in the background, about older steps, which
    it would record as the step that this process has reached.
    """
    del step
    return False


class Checkpointer:
  """Saves (state, progress) under `<workdir>/checkpoints/<step>`."""

  def __init__(
    self,
    workdir: epath.Path,
    keep: int,
    on_complete: Callable[[int, epath.Path], None] | None = None,
  ):
    """Opens the directory.

    Args:
      workdir: of the run.
      keep: how many of the last checkpoints to keep; the best by
        `main_metric` is kept too. One is deleted when the next is complete.
      on_complete: called by `poll`, `save` or `close`, with step and directory,
        once for each checkpoint that is complete.
    """

    def score(metrics):  # checkpoints between evaluations have no metrics
      value = main_metric(metrics)
      return -1.0 if value is None else value

    best = checkpoint_managers.BestN(
      n=1, get_metric_fn=score, keep_checkpoints_without_metrics=False
    )
    last = checkpoint_managers.LatestN(keep)
    self._directory = workdir / DIRECTORY
    self._manager = _Manager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        best_fn=score,  # has the metrics written beside the state
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [last, best]
        ),
        cleanup_tmp_directories=True,  # of a process that was killed
        async_options=ocp.AsyncOptions(
          # Otherwise, where one cannot be made, threads wait for it for 20 min,
          # and Python for them.
          create_directories_asynchronously=False,
          post_finalization_callback=self._verify,
        ),
      ),
    )
    self._saving: int | None = None  # the step that is being written
    self._expected: dict[str, Any] = {}  # what it holds, by item
    self._has_saved = False
    self._on_complete = on_complete
    self._is_incomplete = False  # the one of `_saving`

  def latest_step(self) -> int | None:
    """Returns the step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(
    self,
    state: TrainState,
    progress: Progress,
    metrics: dict[str, float] | None = None,
  ) -> None:
    """Starts writing; returns once the arrays are copied to the host.

    The first checkpoint is waited for, and read back: what cannot be kept here
    should be known at once. Of later ones the structure is verified.

    Args:
      state: the state after update `state.step`.
      progress: of the loop.
      metrics: of the evaluation at this step, if there was one.

    Raises:
      UserError: the previous or the first checkpoint could not be written, or
        not be read back.
    """
    with self._writing():
      self._manager.wait_until_finished()
    self._complete()
    with self._writing():
      self._saving = int(state.step)
      is_first, saved = not self._has_saved, state.saved()
      self._expected = {
        'state': verify.expect(saved, with_values=is_first),
        'progress': verify.expect(progress.window, with_values=is_first),
      }
      self._manager.save(
        self._saving,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(saved),
          progress=ocp.args.StandardSave(progress.window),
          skipped=ocp.args.JsonSave({'in_a_row': progress.skipped_in_a_row}),
        ),
        metrics=metrics or {},
      )
      self._is_incomplete = self._on_complete is not None
      if is_first:
        self._manager.wait_until_finished()
        self._has_saved = True

  def poll(self) -> None:
    """Calls `on_complete` if the last checkpoint has become complete."""
    if not self._is_incomplete or self._manager.is_saving_in_progress():
      return
    if self._saving in find_steps(self._directory):
      self._complete()
    self._is_incomplete = False  # `save` and `close` raise why

  def close(self) -> None:
    """Waits until everything is written.

    Raises:
      UserError: the last checkpoint could not be written.
    """
    with self._writing():
      self._manager.close()
    self._complete()

  def _complete(self):
    if not self._is_incomplete:
      return
    self._is_incomplete = False
    self._on_complete(self._saving, self._directory / str(self._saving))

  def _verify(self):
    """Reads it when all processes have written, and adds checksums.

    After that Orbax commits it.
    """
    final = self._directory / str(self._saving)
    temporary = final.with_name(final.name + _UNFINISHED)
    directory = temporary if temporary.exists() else final
    verify.verify(directory, self._expected)
    checksums.write(directory)

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except Exception as error:  # Orbax passes on any from the file system
      if lost_others(error):
        raise
      try:
        last = max(find_steps(self._directory), default=None)
        next_start = (
          f'resumes from step {last}' if last else 'starts from scratch'
        )
      except Exception:  # the bucket cannot be reached
        next_start = 'resumes from the last checkpoint'
      raise UserError(
        f'the checkpoint of step {self._saving} could not be written to '
        f'{self._directory} ({describe_error(error)}); the same command '
        f'{next_start}, once it can be'
      ) from error
