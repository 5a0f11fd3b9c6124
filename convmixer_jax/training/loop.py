"""The training run, from a config to a trained network."""

import contextlib
from functools import partial

import jax
import ml_collections
from clu import parameter_overview
from jax.sharding import Mesh

from convmixer_jax import config as config_lib
from convmixer_jax import files, models
from convmixer_jax.checkpoints import restore, workdir
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.data import identity, pipeline, sources
from convmixer_jax.distributed import agreement, preemption, sharding
from convmixer_jax.distributed.watchdog import PATIENCE, Watchdog
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.locks.directory_lock import DirectoryLock
from convmixer_jax.pretrained.check_values import check_state
from convmixer_jax.training import changes, initialize, steps
from convmixer_jax.training.batch_size import check_batch_size
from convmixer_jax.training.eval_pass import run_batches
from convmixer_jax.training.metrics import EvalMetrics, empty_window
from convmixer_jax.training.profile import Profile
from convmixer_jax.training.report import Reporter
from convmixer_jax.training.trainer import create_trainer
from convmixer_jax.training.validate import validate


@default_settings()
def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir_path: str
) -> dict[str, float]:
  """Trains as `config` says, or resumes the run in `workdir_path`.

  Args:
    config: see docs/configuration.md.
    workdir_path: a new or empty directory, or one of an earlier run with the
      same network, data and recipe; local, or in a bucket.

  Returns:
    The metrics of the held-out split after the last step.

  Raises:
    InUse: another process trains there; nothing was written.
    UserError: the config, the data or the directory is wrong, and nothing was
      written. Or too many steps in a row were not finite, or a checkpoint
      could not be written.
    Preempted: by SIGTERM or SIGINT; see `preemption.Signals`.
  """
  # Check everything that can be wrong before anything is written.
  with agreement.require_same_on_all_processes() as fingerprint:
    validate(config)
    mesh = sharding.create_mesh(config.mesh)
    check_batch_size(config, mesh.size)
    directory = files.absolute_path(workdir_path)
    workdir.check_workdir(directory, config)
    train_source = sources.create_source(
      config.dataset, config.dataset.train_split
    )
    eval_source = sources.create_source(
      config.dataset, config.dataset.eval_split
    )
    sources.require_classes(train_source)
    steps_per_epoch = pipeline.steps_per_epoch(train_source, config.batch_size)
    num_steps = config_lib.num_train_steps(config, steps_per_epoch)

    data = identity.identify(train_source, eval_source)
    is_recorded = workdir.check_data(directory, data)

    trainer = create_trainer(
      config,
      mesh,
      num_classes=train_source.num_classes,
      steps_per_epoch=steps_per_epoch,
    )
    with contextlib.closing(CheckpointReader(directory)) as reader:
      saved_steps = reader.steps()
    start = {}
    if not saved_steps:
      start = initialize.load_pretrained(
        config, trainer.model, train_source.class_names
      )
    read_table(directory / 'metrics.csv')  # refuses one of another program
    fingerprint |= agreement.collect_fingerprint(
      config,
      directory,
      saved_steps,
      {'train_split': train_source, 'eval_split': eval_source},
    ) | identity.fingerprint(data)

  with (
    contextlib.ExitStack() as stack,
    Watchdog(config.hang_timeout) as watchdog,  # sees an error first
  ):
    is_first_process = jax.process_index() == 0
    lock = DirectoryLock(directory)
    with agreement.require_same_on_all_processes():  # that it is free
      if is_first_process:
        stack.enter_context(lock)
        # Again, since a process may just have ended.
        recorded = workdir.check_workdir(directory, config)
        is_recorded = workdir.check_data(directory, data)
    watchdog.expect('the first step', PATIENCE)
    signals = stack.enter_context(preemption.Signals(directory))
    first_step, state, progress = restore.restore_newest(
      directory,
      trainer.state,
      Progress(empty_window()),
    )
    overview = parameter_overview.get_parameter_overview(
      trainer.state.params, include_stats=False
    )
    with agreement.require_same_on_all_processes():  # that workdir is writable
      if first_step:
        check_state(state, f'checkpoint {first_step} of {directory}')
      if is_first_process:
        class_names = train_source.class_names
        workdir.describe_run(directory, config, class_names, overview, data)
        print(overview)
        if warning := identity.overlap_warning(train_source, eval_source):
          print(warning)
        if saved_steps and not is_recorded:
          print('The run had not recorded its data; this is recorded now')
    checkpointer = Checkpointer(directory, config.keep_checkpoints)
    stack.callback(checkpointer.close)
    if not first_step:
      state = trainer.create_state(
        initialize.shard_pretrained(start, trainer.state)
      )
      del start
    elif is_first_process:
      print(f'Resuming from step {first_step} of {num_steps}')
      if line := changes.describe_changes(
        recorded, config, first_step, steps_per_epoch
      ):
        print(line)

    reporter = Reporter(
      directory,
      *progress,
      config,
      first_step=first_step,
      num_steps=num_steps,
      steps_per_epoch=steps_per_epoch,
    )
    stack.callback(reporter.close)
    pictures = models.architecture_of(trainer.model).pictures
    if pictures:
      pictures = jax.jit(pictures, out_shardings=sharding.replicated(mesh))
    if config.profile:
      profile = stack.enter_context(Profile(directory, first_step))

    batches = pipeline.train_batches(
      train_source,
      config,
      first_step=first_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    stack.callback(batches.close)
    eval_every = config.eval_every_epochs * steps_per_epoch
    results = None
    if signals.stop(0):
      raise signals.preempted(first_step)
    for step in range(first_step + 1, num_steps + 1):
      batch = sharding.to_global(next(batches), mesh)
      state, metrics = trainer.train_step(state, batch)
      reporter.add(step, metrics)
      if config.profile:
        profile(step)

      stops = signals.stop(step - first_step) and step < num_steps
      evaluates = step % eval_every == 0 or step == num_steps
      saves = stops or evaluates or step % config.checkpoint_every_steps == 0
      if saves:
        watchdog.expect(f'the checkpoint of step {step}', PATIENCE)
        window = reporter.flush()
      if len(reporter.skipped_in_a_row) >= config.max_nonfinite:
        raise _nonfinite_error(reporter, checkpointer, directory)
      if saves:
        results = None
        if evaluates:
          results = evaluate(
            trainer.eval_step, state, eval_source, config, mesh
          )
          reporter.evaluation(step, results)
          if pictures:
            reporter.weights(step, pictures(state.params))
        with agreement.require_same_on_all_processes():  # that it is held
          if is_first_process:
            lock.check()
        skipped = len(reporter.skipped_in_a_row)
        checkpointer.save(state, Progress(window, skipped), results)
      if stops:
        raise signals.preempted(step)
      if step > first_step + 1:
        watchdog.expect(f'step {step + 1}')

    watchdog.expect('the end', PATIENCE)
    if results is None:  # the run had ended before
      results = evaluate(trainer.eval_step, state, eval_source, config, mesh)
  return results


def evaluate(
  eval_step,
  state: steps.TrainState,
  source: sources.Source,
  config: ml_collections.ConfigDict,
  mesh: Mesh,
) -> dict[str, float]:
  """Evaluates every image of `source` once, on all devices.

  Args:
    eval_step: jitted `steps.make_eval_step`.
    state: the state to evaluate.
    source: the held-out split.
    config: the whole config.
    mesh: the devices.

  Returns:
    `eval_loss`, `eval_accuracy` and `eval_accuracy_top5`.
  """
  batches = pipeline.eval_batches(
    source,
    config,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  total = jax.device_get(EvalMetrics.empty())
  with contextlib.closing(batches):
    for _, metrics in run_batches(
      partial(eval_step, state), batches, mesh, config.batch_size
    ):
      total = total.merge(metrics)
  return {name: float(value) for name, value in total.compute().items()}


def _nonfinite_error(reporter, checkpointer, directory):
  steps_in_a_row = reporter.skipped_in_a_row
  last = checkpointer.latest_step()
  kept = f'is of step {last}, in {directory}' if last else 'was not yet written'
  return UserError(
    f'the loss or its gradient was not finite in {len(steps_in_a_row)} steps '
    f'in a row (config.max_nonfinite), from step {steps_in_a_row[0]} to step '
    f'{steps_in_a_row[-1]}; the last good checkpoint {kept}; lower '
    'config.learning_rate in a new --workdir, or resume with a larger '
    'config.max_nonfinite'
  )
