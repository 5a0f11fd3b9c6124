"""The training run, from a config to a trained network."""

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import ml_collections
import optax
from flax import linen as nn
from jax.sharding import Mesh

from convmixer_jax import models
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.data import pipeline, sources
from convmixer_jax.data.own_transform import TrainTransform
from convmixer_jax.distributed import preemption, sharding
from convmixer_jax.distributed.eval_pass import fetch_outputs, run_batches
from convmixer_jax.distributed.watchdog import PATIENCE, Watchdog
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.own_names import Named
from convmixer_jax.training import summary
from convmixer_jax.training.batches import open_train_batches
from convmixer_jax.training.callbacks import Callback, CallbackList, RunInfo
from convmixer_jax.training.lag import describe_ema_lag, describe_lag
from convmixer_jax.training.on_device.batches import DeviceImages
from convmixer_jax.training.own_parts import OwnParts
from convmixer_jax.training.profile import Profile
from convmixer_jax.training.report import Reporter
from convmixer_jax.training.setup import Setup, set_up
from convmixer_jax.training.start import Claim, claim_directory, start_state
from convmixer_jax.training.tasks import task_of


@default_settings()
def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike[str],
  *,
  train_source: Any = None,
  eval_source: Any = None,
  model: nn.Module | Named | None = None,
  train_transform: TrainTransform | Named | None = None,
  optimizer: optax.GradientTransformation | Named | None = None,
  callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
  """Trains as `config` says, or resumes the run in `workdir`.

  Args:
    config: see docs/configuration.md.
    workdir: a new or empty directory, or one of an earlier run with the same
      network, data and recipe; local, or in a bucket.
    train_source: images to train on, in place of those of the config: an object
      with `__len__`, `class_names`, and `__getitem__` that returns a dict of
      `image`, `[H, W, C]` in uint8, uint16 or float32, and `label`.
    eval_source: images to evaluate on.
    model: a network, in place of `config.model`.
    train_transform: augments an image, in place of crop, flip and RandAugment
      of `config.augment`. A function of an image `[H, W, C]` and a
      `numpy.random.Generator` that returns `[h, w, C]`, the size being
      `config.dataset.image_size`. It has a name; see `convmixer_jax.named`.
    optimizer: in place of that of the config, with its learning rate, decay and
      clipping. It has a name, too.
    callbacks: see `training.callbacks`.

  Returns:
    The metrics of the held-out split after the last step.

  Raises:
    InUse: another process trains there; nothing was written.
    UserError: the config, the data or the directory is wrong, and nothing was
      written. Or too many steps in a row were not finite, or a checkpoint
      could not be written.
    Preempted: by SIGTERM or SIGINT; see `preemption.Signals`.
  """
  own = OwnParts(train_source, eval_source, model, train_transform, optimizer)
  callback_list = CallbackList(callbacks)
  setup = set_up(config, workdir, own)
  with (
    contextlib.ExitStack() as stack,
    Watchdog(config.hang_timeout) as watchdog,  # sees an error first
  ):
    claim = claim_directory(setup, stack)
    stack.enter_context(callback_list)
    watchdog.expect('the first step', PATIENCE)
    signals = stack.enter_context(preemption.Signals(setup.directory))
    first_step, state, progress = start_state(setup, claim)
    loop = _Loop(setup, claim, watchdog, signals, callback_list)
    loop.open(stack, first_step, progress)
    callback_list.results = loop.run(state, first_step)
  return callback_list.results


class _Loop:
  """The steps of a run, and what is done between them."""

  def __init__(
    self,
    setup: Setup,
    claim: Claim,
    watchdog: Watchdog,
    signals: preemption.Signals,
    callbacks: CallbackList,
  ):
    self._setup, self._claim = setup, claim
    self._config, self._mesh = setup.config, setup.mesh
    self._watchdog, self._signals = watchdog, signals
    self._callbacks = callbacks
    self._profile = None
    self._has_evaluated = False
    self._pictures = models.architecture_of(setup.trainer.model).pictures
    if self._pictures:
      self._pictures = jax.jit(
        self._pictures, out_shardings=sharding.replicated(self._mesh)
      )

  def open(
    self, stack: contextlib.ExitStack, first_step: int, progress: Progress
  ) -> None:
    """Opens what is written to and read from, until `stack` is closed."""
    setup, config, callbacks = self._setup, self._config, self._callbacks
    reports_checkpoints = callbacks.needs('on_checkpoint')
    self._checkpointer = Checkpointer(
      setup.directory,
      config.keep_checkpoints,
      callbacks.on_checkpoint if reports_checkpoints else None,
    )
    stack.callback(self._checkpointer.close)
    self._reporter = Reporter(
      setup.directory,
      *progress,
      config,
      first_step=first_step,
      num_steps=setup.num_steps,
      steps_per_epoch=setup.steps_per_epoch,
      callbacks=callbacks,
      name=summary.run_name(setup),
    )
    stack.callback(self._reporter.close)
    if config.profile:
      self._profile = stack.enter_context(Profile(setup.directory, first_step))
    self._batches = open_train_batches(setup, first_step)
    stack.callback(self._batches.close)
    callbacks.on_start(
      RunInfo(
        workdir=setup.directory,
        config=config,
        model=setup.trainer.model,
        class_names=tuple(setup.train_source.class_names),
        first_step=first_step,
        num_steps=setup.num_steps,
        steps_per_epoch=setup.steps_per_epoch,
      )
    )

  def run(self, state: TrainState, first_step: int) -> dict[str, float]:
    """Makes the steps after `first_step`; returns the last evaluation."""
    num_steps = self._setup.num_steps
    eval_every = self._config.eval_every_epochs * self._setup.steps_per_epoch
    save_every = self._config.checkpoint_every_steps
    results = None
    if self._signals.stop(0):
      raise self._signals.preempted(first_step)
    for step in range(first_step + 1, num_steps + 1):
      state = self._train(state, step)
      stops = self._signals.stop(step - first_step) and step < num_steps
      evaluates = step % eval_every == 0 or step == num_steps
      if stops or evaluates or step % save_every == 0:
        results = self._save(state, step, evaluates)
      else:
        self._checkpointer.poll()
        self._check_finite()
      if stops:
        raise self._signals.preempted(step)
      if step > first_step + 1:
        self._watchdog.expect(f'step {step + 1}')
    self._watchdog.expect('the end', PATIENCE)
    if results is None:  # the run had ended before
      results = self._evaluate(state)
    return results

  def _train(self, state: TrainState, step: int) -> TrainState:
    """Dispatches a step; its metrics are fetched after the next."""
    state, metrics = self._setup.trainer.train_step(state, next(self._batches))
    self._reporter.add(step, metrics)
    if self._profile:
      self._profile(step)
    return state

  def _save(
    self, state: TrainState, step: int, evaluates: bool
  ) -> dict[str, float] | None:
    """Writes a checkpoint, after an evaluation if it is time for one."""
    self._watchdog.expect(f'the checkpoint of step {step}', PATIENCE)
    window = self._reporter.flush()
    self._check_finite()
    results = None
    if evaluates:
      results = self._evaluate(state)
      self._reporter.evaluation(step, results)
      self._note_lag(step)
      if self._pictures:
        self._reporter.weights(step, self._pictures(state.params))
    self._claim.check()
    skipped = len(self._reporter.skipped_in_a_row)
    self._checkpointer.save(state, Progress(window, skipped), results)
    if results is not None:  # after saving: what it raises loses no step
      self._callbacks.on_evaluation(step, results)
    return results

  def _note_lag(self, step: int) -> None:
    """Explains the first evaluation if it says little, so early in the run."""
    if self._has_evaluated:  # later ones say more
      return
    self._has_evaluated = True
    for describe in (describe_lag, describe_ema_lag):
      if line := describe(self._setup, step):
        self._reporter.print(line)

  def _evaluate(self, state: TrainState) -> dict[str, float]:
    return evaluate(
      self._setup.trainer.eval_step,
      state,
      self._setup.eval_source,
      self._config,
      self._mesh,
      self._setup.device_images,
    )

  def _check_finite(self) -> None:
    """Raises UserError if too many steps in a row were not finite."""
    skipped = self._reporter.skipped_in_a_row
    if len(skipped) < self._config.max_nonfinite:
      return
    last = self._checkpointer.latest_step()
    directory = self._setup.directory
    kept = (
      f'is of step {last}, in {directory}' if last else 'was not yet written'
    )
    raise UserError(
      f'the loss or its gradient was not finite in {len(skipped)} steps '
      f'in a row (config.max_nonfinite), from step {skipped[0]} to step '
      f'{skipped[-1]}; the last good checkpoint {kept}; lower '
      'config.learning_rate in a new --workdir, or resume with a larger '
      'config.max_nonfinite'
    )


def evaluate(
  eval_step: Callable[..., Any],
  state: TrainState,
  source: sources.Source,
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  device_images: DeviceImages | None = None,
) -> dict[str, float]:
  """Evaluates every image of `source` once, on all devices.

  Args:
    eval_step: jitted `steps.make_eval_step`.
    state: the state to evaluate.
    source: the held-out split.
    config: the whole config.
    mesh: the devices.
    device_images: those of the split, if they are on the devices.

  Returns:
    The metrics by name; see `tasks.Task.eval_names`.
  """
  function = partial(eval_step, state)
  if device_images is not None:
    outputs = fetch_outputs(function, device_images.eval_batches())
    return task_of(config).summarize(outputs)
  batches = pipeline.eval_batches(
    source,
    config,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  with contextlib.closing(batches):
    outputs = run_batches(function, batches, mesh, config.batch_size)
    return task_of(config).summarize(output for _, output in outputs)
