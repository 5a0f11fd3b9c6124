"""Restores the training state from the newest checkpoint that is undamaged."""

import itertools
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from etils import epath

from convmixer_jax.checkpoints import checksums, pending_reads
from convmixer_jax.checkpoints.checkpointer import Progress
from convmixer_jax.checkpoints.step_directories import (
  DIRECTORY,
  check_is_ours,
  describe_error,
  find_steps,
)
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.distributed import processes
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json


def restore_newest(
  workdir: epath.Path, state: TrainState, progress: Progress
) -> tuple[int, TrainState, Progress]:
  """Reads the newest undamaged checkpoint of a run, on all processes.

  Newer ones that are damaged are reported and renamed to `damaged-STEP`;
  nothing is deleted. Call it before a `Checkpointer` is opened.

  Args:
    workdir: of the run.
    state: arrays or `jax.ShapeDtypeStruct`s with the shardings to restore to,
      which may differ from those of the saved arrays.
    progress: with the structure of the saved one.

  Returns:
    The step and what was saved there; or 0 and the arguments, if the run has
    no checkpoint.

  Raises:
    UserError: there are checkpoints, and all are damaged.
  """
  directory = workdir / DIRECTORY
  damaged: dict[int, str] = {}
  is_first_process = jax.process_index() == 0
  undamaged = _find_undamaged(directory, damaged)
  while step := processes.value_of_first(
    next(undamaged, 0) if is_first_process else 0
  ):
    error = None
    try:
      restored = restore(workdir, step, state, progress)
    except Exception as caught:  # Orbax raises any for a damaged file
      error = caught
    if processes.all_true(error is None):
      break
    damaged[step] = describe_error(error) if error else 'in another process'
  if not step and processes.value_of_first(len(damaged)):
    found = ', '.join(f'{step} ({what})' for step, what in damaged.items())
    raise UserError(
      f'no checkpoint in {directory} is undamaged and of this run: '
      f'{found or "see process 0"}; put a copy of one there, or give a new '
      '--workdir to start from scratch'
    )
  if is_first_process:
    damaged |= _find_unreadable_metrics(directory, step)
    for number, what in damaged.items():
      moved = _move_aside(directory / str(number))
      print(
        f'The checkpoint of step {number} is damaged ({what}): moved to {moved}'
      )
  processes.value_of_first(0)  # wait until they are renamed
  return (step, *restored) if step else (0, state, progress)


def restore(
  workdir: epath.Path, step: int, state: TrainState, progress: Progress
) -> tuple[TrainState, Progress]:
  """Reads the checkpoint of `step`; see `restore_newest`."""
  path = workdir / DIRECTORY / str(step)
  check_is_ours(path)
  items = ocp.args.Composite(
    state=ocp.args.StandardRestore(state.saved()),
    progress=ocp.args.StandardRestore(progress.window),
    skipped=ocp.args.JsonRestore(),
  )
  handler = ocp.CompositeCheckpointHandler()
  with ocp.Checkpointer(handler) as reader, pending_reads.awaited():
    found = reader.restore(path, args=items)
  skipped = found['skipped']['in_a_row']
  return TrainState(**found['state']), Progress(found['progress'], skipped)


def _find_undamaged(
  directory: epath.Path, damaged: dict[int, str]
) -> Iterator[int]:
  """Yields undamaged steps, the newest first; adds the others to `damaged`."""
  for step in sorted(find_steps(directory), reverse=True):
    path = directory / str(step)
    what = checksums.find_damage(path)
    if not checksums.exist(path):
      try:
        check_is_ours(path)
      except UserError as error:
        what = str(error)
    if what:
      damaged[step] = what
    else:
      yield step


def _find_unreadable_metrics(
  directory: epath.Path, before: int
) -> dict[int, str]:
  """Returns older checkpoints whose metrics would make Orbax fail to open."""
  damaged = {}
  for step in find_steps(directory):
    path = directory / str(step)
    if step >= before or not (path / 'metrics' / 'metrics').exists():
      continue
    what = None
    if checksums.exist(path):  # else a process was killed while it deleted
      what = checksums.find_damage(path, 'metrics/')
    try:
      parse_json((path / 'metrics' / 'metrics').read_text())
    except ValueError as error:
      what = f'metrics/metrics: {error}'
    if what:
      damaged[step] = what
  return damaged


def _move_aside(path: epath.Path) -> epath.Path:
  for number in itertools.count():
    suffix = f'.{number}' if number else ''
    aside = path.with_name(f'damaged-{path.name}{suffix}')
    if not aside.exists():
      try:
        return path.rename(aside)
      except OSError as error:
        raise UserError(
          f'{path} is damaged and cannot be moved to {aside.name} '
          f'({describe_error(error)}); make the directory writable'
        ) from error
