"""Code of your own that runs during training: `Callback`."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence

import jax
import ml_collections
from etils import epath
from flax import linen as nn

from convmixer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RunInfo:
  """What a callback is given of the run that starts.

  Attributes:
    workdir: the run directory.
    config: the whole config; do not change it.
    model: the network.
    class_names: of the training data.
    first_step: the step that the run starts after: 0, or that of the checkpoint
      that it resumes from.
    num_steps: updates in the whole run.
    steps_per_epoch: updates in an epoch.
  """

  workdir: epath.Path
  config: ml_collections.ConfigDict
  model: nn.Module
  class_names: tuple[str, ...]
  first_step: int
  num_steps: int
  steps_per_epoch: int


class Callback:
  """Base class of callbacks: override what you need; each method does nothing.

  All methods run in the thread of the training loop, in the first process only
  if there are several. An exception in one of them ends the run, which resumes
  from its last checkpoint.
  """

  def on_start(self, run: RunInfo) -> None:
    """Is called once, before the first step of this start of the run."""

  def on_step(self, step: int, metrics: dict[str, float]) -> None:
    """Is called after every update.

    The metrics of an update are fetched after the next one was dispatched, so
    that the device does not wait for the host. What takes longer than a step
    should go to a thread.

    Args:
      step: number of the update, from 1.
      metrics: of this update alone, such as `train_loss` and `learning_rate`.
    """

  def on_evaluation(self, step: int, metrics: dict[str, float]) -> None:
    """Is called after each evaluation of the held-out images.

    An exception here keeps the step: its checkpoint is completed first.

    Args:
      step: number of the last update.
      metrics: such as `eval_loss` and `eval_accuracy`.
    """

  def on_checkpoint(self, step: int, path: epath.Path) -> None:
    """Is called when a checkpoint is complete, some steps after `step`.

    Args:
      step: number of the last update in the checkpoint.
      path: its directory. Once the next checkpoint is complete, this one may be
        deleted.
    """

  def on_end(self, results: dict[str, float] | None) -> None:
    """Is called once, when all files of the run are written.

    Args:
      results: what `train_and_evaluate` returns; None if the run was stopped or
        failed.
    """


class CallbackList:
  """Several callbacks as one; entered as a context, which calls `on_end`.

  Attributes:
    results: what the context gives to `on_end`; set it when the run is done.
  """

  def __init__(self, callbacks: Sequence[Callback]):
    """Does nothing with the callbacks in processes other than the first.

    Raises:
      UserError: one is not an object of a class that extends `Callback`.
    """
    checked = _check(callbacks)
    self._callbacks = checked if jax.process_index() == 0 else ()
    self._started: list[Callback] = []
    self.results: dict[str, float] | None = None

  def __enter__(self) -> 'CallbackList':
    return self

  def __exit__(self, kind: object, *_: object) -> None:
    results = None if kind else self.results  # closing may have failed
    with contextlib.ExitStack() as stack:  # also after one that raises
      for callback in reversed(self._started):
        stack.callback(callback.on_end, results)

  def needs(self, method: str) -> bool:
    """Returns whether a callback, in this process, overrides `method`."""
    nothing = getattr(Callback, method)
    return any(
      getattr(getattr(callback, method), '__func__', None) is not nothing
      for callback in self._callbacks
    )

  def on_start(self, run: RunInfo) -> None:
    """Calls that of each."""
    for callback in self._callbacks:
      self._started.append(callback)
      callback.on_start(run)

  def on_step(self, step: int, metrics: dict[str, float]) -> None:
    """Calls that of each."""
    for callback in self._callbacks:
      callback.on_step(step, metrics)

  def on_evaluation(self, step: int, metrics: dict[str, float]) -> None:
    """Calls that of each."""
    for callback in self._callbacks:
      callback.on_evaluation(step, metrics)

  def on_checkpoint(self, step: int, path: epath.Path) -> None:
    """Calls that of each."""
    for callback in self._callbacks:
      callback.on_checkpoint(step, path)


def _check(callbacks):
  if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
    raise UserError(
      f'callbacks is a {type(callbacks).__name__}, not a list; give '
      'callbacks=[callback]'
    )
  callbacks = tuple(callbacks)
  for number, callback in enumerate(callbacks):
    if isinstance(callback, type) and issubclass(callback, Callback):
      raise UserError(
        f'callbacks[{number}] is the class {callback.__name__}; give an object '
        f'of it, such as {callback.__name__}()'
      )
    if not isinstance(callback, Callback):
      raise UserError(
        f'callbacks[{number}] is a {type(callback).__name__}; give an object '
        'of a class that extends convmixer_jax.Callback'
      )
  return callbacks
