"""Reads networks from the checkpoints of a run, on any devices."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from convmixer_jax.checkpoints import checksums, pending_reads
from convmixer_jax.checkpoints.checkpointer import main_metric
from convmixer_jax.checkpoints.step_directories import (
  DIRECTORY,
  check_is_ours,
  describe_error,
  find_steps,
)
from convmixer_jax.errors import UserError


class CheckpointReader:
  """Reads the networks of a run, on any devices; writes nothing."""

  def __init__(self, workdir: epath.Path):
    """Reads nothing yet.

    Args:
      workdir: of the run, which may still be training.
    """
    self._directory = workdir / DIRECTORY
    self._reader = ocp.Checkpointer(
      ocp.CompositeCheckpointHandler(
        state=ocp.PyTreeCheckpointHandler(),
        progress=ocp.StandardCheckpointHandler(),
        skipped=ocp.JsonCheckpointHandler(),
        metrics=ocp.JsonCheckpointHandler(filename='metrics'),
      )
    )

  def steps(self) -> list[int]:
    """Returns the steps that have a complete checkpoint, ascending."""
    return sorted(find_steps(self._directory))

  def best_step(self) -> int | None:
    """Returns the step that is the best by `main_metric`, None without any.

    Of several equal ones it is the last, as in `Checkpointer`.

    Raises:
      UserError: the metrics of a checkpoint are damaged.
    """
    found = {}
    for step in self.steps():
      path = self._directory / str(step)
      if not (path / 'metrics').exists():  # of another program
        continue
      args = ocp.args.Composite(metrics=ocp.args.JsonRestore())
      try:
        metrics = self._reader.restore(path, args=args)['metrics']
        value = main_metric(dict(metrics))
        if value is not None:
          found[step] = value
      except Exception as error:  # Orbax raises any for a damaged file
        raise _damaged(path, error) from error
    return max(found, key=lambda step: (found[step], step), default=None)

  def read_variables(
    self, step: int, head: str = 'head', *, ema: bool = False
  ) -> dict[str, Any]:
    """Returns `params` and `batch_stats`, on the first device of this process.

    Args:
      step: one of `steps()`.
      head: name of the network's last module.
      ema: whether to return their exponential moving averages.

    Raises:
      UserError: it is damaged, or of another program.
    """
    path = self._directory / str(step)
    try:
      check_is_ours(path)
      if what := checksums.find_damage(path, 'state/'):
        raise UserError(what)
      with pending_reads.awaited():
        return self._read_variables(path, head, ema)
    except Exception as error:  # Orbax raises any for a damaged file
      raise _damaged(path, error) from error

  def _read_variables(self, path, head, ema):
    here = SingleDeviceSharding(jax.local_devices()[0])
    saved = self._reader.metadata(path).item_metadata['state']
    if head not in saved['params']:
      raise UserError('its network has no head')
    wanted = saved['ema'] if ema else saved
    target = jax.tree.map(
      lambda array: jax.ShapeDtypeStruct(
        array.shape, array.dtype, sharding=here
      ),
      {name: wanted[name] for name in ('params', 'batch_stats')},
    )
    if ema:
      target = {'ema': target}
    args = ocp.args.PyTreeRestore(
      target,
      restore_args=ocp.checkpoint_utils.construct_restore_args(target),
      partial_restore=True,  # not the optimizer's state
    )
    restored = self._reader.restore(path, args=ocp.args.Composite(state=args))
    return restored['state']['ema'] if ema else restored['state']

  def close(self) -> None:
    """Ends Orbax's threads."""
    self._reader.close()


def _damaged(path, error):
  return UserError(
    f'{path} is damaged or not a checkpoint of train.py '
    f'({describe_error(error)}); choose another step or run'
  )
