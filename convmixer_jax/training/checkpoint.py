"""Checkpoints, by Orbax: written in the background, the last and the best."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers

from convmixer_jax.training.steps import TrainState

BEST_BY = 'eval_accuracy'
_DIRECTORY = 'checkpoints'


class Checkpointer:
  """Saves and restores (state, progress) under `<workdir>/checkpoints/<step>`.

  `state` is the `TrainState`; `progress` is what the loop needs besides to go
  on as if it had never stopped: the sums of metrics not yet reported.
  """

  def __init__(self, workdir: epath.Path, keep: int):
    """Opens the directory.

    Args:
      workdir: of the run.
      keep: how many of the last checkpoints to keep; the best by held-out
        accuracy is kept besides.
    """

    def accuracy(metrics):  # checkpoints between evaluations have no metrics
      return metrics.get(BEST_BY, -1.0)

    best = checkpoint_managers.BestN(
      n=1, get_metric_fn=accuracy, keep_checkpoints_without_metrics=False
    )
    last = checkpoint_managers.LatestN(keep)
    self._manager = ocp.CheckpointManager(
      workdir / _DIRECTORY,
      options=ocp.CheckpointManagerOptions(
        best_fn=accuracy,  # has the metrics written beside the state
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [last, best]
        ),
      ),
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(
    self,
    state: TrainState,
    progress: Any,
    metrics: dict[str, float] | None = None,
  ) -> None:
    """Starts writing; returns once the arrays are copied to the host.

    Args:
      state: the state after update `state.step`.
      progress: a tree of scalars.
      metrics: what evaluation found at this step, if there was one.
    """
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        progress=ocp.args.StandardSave(progress),
      ),
      metrics=metrics or {},
    )

  def restore(
    self, step: int, state: TrainState, progress: Any
  ) -> tuple[TrainState, Any]:
    """Reads a checkpoint back.

    Args:
      step: one that was saved.
      state: arrays or `jax.ShapeDtypeStruct`s with the shardings to restore to,
        which need not be those that were saved.
      progress: a tree like the one saved.
    """
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(state),
        progress=ocp.args.StandardRestore(progress),
      ),
    )
    return restored['state'], restored['progress']

  def close(self) -> None:
    """Waits until everything is written."""
    self._manager.close()


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
        metrics=ocp.JsonCheckpointHandler(filename='metrics'),
      )
    )

  def steps(self) -> list[int]:
    """Returns the steps there are whole checkpoints of, ascending."""
    if not self._directory.exists():
      return []
    names = ocp.path.step.standard_name_format()
    return sorted(found.step for found in names.find_all(self._directory))

  def best_step(self) -> int | None:
    """Returns the step of the best held-out accuracy, None without any.

    Of equals it is the last, as for `Checkpointer`.
    """
    found = {}
    for step in self.steps():
      args = ocp.args.Composite(metrics=ocp.args.JsonRestore())
      metrics = self._reader.restore(self._directory / str(step), args=args)
      if BEST_BY in metrics['metrics']:
        found[step] = metrics['metrics'][BEST_BY]
    return max(found, key=lambda step: (found[step], step), default=None)

  def read_variables(self, step: int) -> dict[str, Any]:
    """Returns `params` and `batch_stats`, on the first device of this process.

    Args:
      step: one of `steps()`.
    """
    path = self._directory / str(step)
    here = SingleDeviceSharding(jax.local_devices()[0])
    saved = self._reader.metadata(path).item_metadata['state']
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
