"""Checkpoints, by Orbax: written in the background, the last and the best."""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers

from convmixer_jax.checkpoints import checksums
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.distributed.watchdog import lost_others
from convmixer_jax.errors import UserError

BEST_BY = 'eval_accuracy'
_DIRECTORY = 'checkpoints'
_UNFINISHED = ocp.path.atomicity.TMP_DIR_SUFFIX


class Progress(NamedTuple):
  """What the loop needs besides the state, to go on as if never stopped.

  Attributes:
    window: the sums of metrics not yet reported, a tree of scalars.
    skipped_in_a_row: how many of the last steps were not finite.
  """

  window: Any
  skipped_in_a_row: int = 0


class _Manager(ocp.CheckpointManager):
  def reached_preemption(self, step: int) -> bool:
    """Leaves asking to the loop.

    jax.distributed takes the number it is asked about for that of the process.
    Orbax would ask, in the background, about steps of long ago.
    """
    del step
    return False


class Checkpointer:
  """Saves (state, progress) under `<workdir>/checkpoints/<step>`."""

  def __init__(self, workdir: epath.Path, keep: int):
    """Opens the directory.

    Args:
      workdir: of the run.
      keep: how many of the last checkpoints to keep; the best by held-out
        accuracy is kept besides. One is deleted when the next is whole.
    """

    def accuracy(metrics):  # checkpoints between evaluations have no metrics
      return metrics.get(BEST_BY, -1.0)

    best = checkpoint_managers.BestN(
      n=1, get_metric_fn=accuracy, keep_checkpoints_without_metrics=False
    )
    last = checkpoint_managers.LatestN(keep)
    self._directory = workdir / _DIRECTORY
    self._manager = _Manager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        best_fn=accuracy,  # has the metrics written beside the state
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [last, best]
        ),
        cleanup_tmp_directories=True,  # of a process that was killed
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_checksums
        ),
      ),
    )
    self._saving = None  # the step that is being written

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

    Args:
      state: the state after update `state.step`.
      progress: of the loop.
      metrics: what evaluation found at this step, if there was one.

    Raises:
      UserError: the checkpoint before this could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()
      self._saving = int(state.step)
      self._manager.save(
        self._saving,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          progress=ocp.args.StandardSave(progress.window),
          skipped=ocp.args.JsonSave({'in_a_row': progress.skipped_in_a_row}),
        ),
        metrics=metrics or {},
      )

  def close(self) -> None:
    """Waits until everything is written.

    Raises:
      UserError: the last checkpoint could not be.
    """
    with self._writing():
      self._manager.close()

  def _write_checksums(self):
    """Adds them when all processes have written, before Orbax commits."""
    final = self._directory / str(self._saving)
    temporary = final.with_name(final.name + _UNFINISHED)
    checksums.write(temporary if temporary.exists() else final)

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except Exception as error:  # from the file system by way of Orbax: any
      if lost_others(error):
        raise
      try:
        last = max(_steps(self._directory), default=None)
        next_start = f'goes on from step {last}' if last else 'begins anew'
      except Exception:  # of a bucket that is out of reach
        next_start = 'resumes from the last checkpoint'
      raise UserError(
        f'the checkpoint of step {self._saving} could not be written to '
        f'{self._directory} ({_in_short(error)}); the same command '
        f'{next_start}, once it can be'
      ) from error


class CheckpointReader:
  """Reads the networks of a run, on whatever devices; writes nothing."""

  def __init__(self, workdir: epath.Path):
    """Looks at nothing yet.

    Args:
      workdir: of the run, which may still be going on.
    """
    self._directory = workdir / _DIRECTORY
    self._reader = ocp.Checkpointer(
      ocp.CompositeCheckpointHandler(
        state=ocp.PyTreeCheckpointHandler(),
        progress=ocp.StandardCheckpointHandler(),
        skipped=ocp.JsonCheckpointHandler(),
        metrics=ocp.JsonCheckpointHandler(filename='metrics'),
      )
    )

  def steps(self) -> list[int]:
    """Returns the steps there are whole checkpoints of, ascending."""
    return sorted(_steps(self._directory))

  def best_step(self) -> int | None:
    """Returns the step of the best held-out accuracy, None without any.

    Of equals it is the last, as for `Checkpointer`.
    """
    found = {}
    for step in self.steps():
      path = self._directory / str(step)
      if not (path / 'metrics').exists():  # another program's
        continue
      args = ocp.args.Composite(metrics=ocp.args.JsonRestore())
      metrics = self._reader.restore(path, args=args)
      if BEST_BY in metrics['metrics']:
        found[step] = metrics['metrics'][BEST_BY]
    return max(found, key=lambda step: (found[step], step), default=None)

  def read_variables(self, step: int, head: str = 'head') -> dict[str, Any]:
    """Returns `params` and `batch_stats`, on the first device of this process.

    Args:
      step: one of `steps()`.
      head: name of the network's last module.

    Raises:
      UserError: it is damaged, or another program's.
    """
    path = self._directory / str(step)
    try:
      _check_is_ours(path)
      return self._read_variables(path, head)
    except Exception as error:  # from a file by way of Orbax: any
      raise UserError(
        f'{path} is damaged or no checkpoint of ours ({_in_short(error)}); '
        'choose another step or run'
      ) from error

  def _read_variables(self, path, head):
    here = SingleDeviceSharding(jax.local_devices()[0])
    saved = self._reader.metadata(path).item_metadata['state']
    if head not in saved['params']:
      raise UserError('its network has no head')
    target = jax.tree.map(
      lambda array: jax.ShapeDtypeStruct(
        array.shape, array.dtype, sharding=here
      ),
      {name: saved[name] for name in ('params', 'batch_stats')},
    )
    args = ocp.args.PyTreeRestore(
      target,
      restore_args=ocp.checkpoint_utils.construct_restore_args(target),
      partial_restore=True,  # not the optimizer's state
    )
    restored = self._reader.restore(path, args=ocp.args.Composite(state=args))
    return restored['state']

  def close(self) -> None:
    """Lets go of Orbax's threads."""
    self._reader.close()


def restore_newest(
  workdir: epath.Path, state: TrainState, progress: Progress
) -> tuple[int, TrainState, Progress]:
  """Reads the newest whole checkpoint of a run, on all processes.

  Damaged ones that are newer are told of, and moved to `damaged-STEP`; to be
  called before a `Checkpointer` is opened. Nothing is deleted.

  Args:
    workdir: of the run.
    state: arrays or `jax.ShapeDtypeStruct`s with the shardings to restore to,
      which need not be those that were saved.
    progress: like the one saved.

  Returns:
    The step, and what was saved then; or 0 and the arguments, if nothing was.

  Raises:
    UserError: there are checkpoints, and all are damaged.
  """
  directory = workdir / _DIRECTORY
  damaged: dict[int, str] = {}
  is_first_process = jax.process_index() == 0
  looks_whole = _look_whole(directory, damaged)
  while step := _from_first_process(
    next(looks_whole, 0) if is_first_process else 0
  ):
    error = None
    try:
      restored = restore(workdir, step, state, progress)
    except Exception as caught:  # from a damaged file by way of Orbax: any
      error = caught
    if _in_all_processes(error is None):
      break
    damaged[step] = _in_short(error) if error else 'in another process'
  if not step and _from_first_process(len(damaged)):
    found = ', '.join(f'{step} ({what})' for step, what in damaged.items())
    raise UserError(
      f'no checkpoint in {directory} is whole and of this run: '
      f'{found or "see process 0"}; put a copy of one there, or give a new '
      '--workdir to begin anew'
    )
  if is_first_process:
    damaged |= _with_unreadable_metrics(directory, step)
    for number, what in damaged.items():
      moved = _set_aside(directory / str(number))
      print(
        f'The checkpoint of step {number} is damaged ({what}): moved to {moved}'
      )
  _from_first_process(0)  # wait until they are moved
  return (step, *restored) if step else (0, state, progress)


def restore(
  workdir: epath.Path, step: int, state: TrainState, progress: Progress
) -> tuple[TrainState, Progress]:
  """Reads the checkpoint of `step`; see `restore_newest`."""
  path = workdir / _DIRECTORY / str(step)
  _check_is_ours(path)
  items = {
    'state': ocp.args.StandardRestore(state),
    'progress': ocp.args.StandardRestore(progress.window),
  }
  if (path / 'skipped').exists():  # older ones have none
    items['skipped'] = ocp.args.JsonRestore()
  handler = ocp.CompositeCheckpointHandler()
  with ocp.Checkpointer(handler) as reader:
    found = reader.restore(path, args=ocp.args.Composite(**items))
  skipped = found['skipped']['in_a_row'] if 'skipped' in items else 0
  return found['state'], Progress(found['progress'], skipped)


def _check_is_ours(path: epath.Path) -> None:
  if not (path / 'state').is_dir():
    raise UserError('it has no state, so another program may have written it')


def _steps(directory: epath.Path) -> list[int]:
  if not directory.exists():
    return []
  if not directory.is_dir():
    raise UserError(
      f'{directory} is a file, not a directory of checkpoints; move it away'
    )
  names = ocp.path.step.standard_name_format()
  return [found.step for found in names.find_all(directory)]


def _look_whole(
  directory: epath.Path, damaged: dict[int, str]
) -> Iterator[int]:
  """Yields the steps that pass, the newest first; notes those that do not."""
  for step in sorted(_steps(directory), reverse=True):
    if what := checksums.find_damage(directory / str(step)):
      damaged[step] = what
    else:
      yield step


def _with_unreadable_metrics(
  directory: epath.Path, before: int
) -> dict[int, str]:
  """Returns older checkpoints that Orbax would stumble over when it opens."""
  damaged = {}
  for step in _steps(directory):
    path = directory / str(step)
    if step >= before or not (path / 'metrics' / 'metrics').exists():
      continue
    what = checksums.find_damage(path, 'metrics/')
    try:
      json.loads((path / 'metrics' / 'metrics').read_text())
    except ValueError as error:
      what = f'metrics/metrics: {error}'
    if what:
      damaged[step] = what
  return damaged


def _set_aside(path: epath.Path) -> epath.Path:
  for number in itertools.count():
    suffix = f'.{number}' if number else ''
    aside = path.with_name(f'damaged-{path.name}{suffix}')
    if not aside.exists():
      try:
        return path.rename(aside)
      except OSError as error:
        raise UserError(
          f'{path} is damaged and cannot be moved to {aside.name} '
          f'({_in_short(error)}); make the directory writable'
        ) from error


def _from_first_process(value: int) -> int:
  if jax.process_count() == 1:
    return value
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _in_all_processes(value: bool) -> bool:
  if jax.process_count() == 1:
    return value
  return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


def _in_short(error: Exception) -> str:
  """Returns what went wrong without where: the caller knows."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = ' '.join(str(error).split())
  if code := re.search(r"os_error_code='(\d+)'", text):
    return os.strerror(int(code[1]))
  return f'{type(error).__name__}: {text[:200]}'
