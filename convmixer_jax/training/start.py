"""Takes the run directory, and gives the state that training starts from."""

import contextlib
import dataclasses

import jax
import ml_collections
from clu import parameter_overview

from convmixer_jax.checkpoints import parts, restore, workdir
from convmixer_jax.checkpoints.checkpointer import Progress
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.data import identity
from convmixer_jax.distributed import agreement
from convmixer_jax.locks.directory_lock import DirectoryLock
from convmixer_jax.pretrained.check_values import check_state
from convmixer_jax.training import changes, initialize, summary
from convmixer_jax.training.kernel_layers import warn_of_layers_without_kernels
from convmixer_jax.training.setup import Setup
from convmixer_jax.training.tasks import task_of


@dataclasses.dataclass(frozen=True)
class Claim:
  """The run directory, which no other process writes to.

  Attributes:
    lock: held in the first process.
    recorded: the config that the run in it was last started with; None if it is
      new, and in other processes.
    has_data: whether the run in it recorded its data.
  """

  lock: DirectoryLock
  recorded: ml_collections.ConfigDict | None
  has_data: bool

  def check(self) -> None:
    """Raises UserError in all processes if the lock was lost in the first."""
    with agreement.require_same_on_all_processes():
      if jax.process_index() == 0:
        self.lock.check()


def claim_directory(setup: Setup, stack: contextlib.ExitStack) -> Claim:
  """Locks the run directory until `stack` is closed.

  Raises:
    InUse: another process trains there.
    UserError: what it holds has changed since `setup` looked at it.
  """
  lock = DirectoryLock(setup.directory)
  recorded, has_data = None, False
  with agreement.require_same_on_all_processes():  # that it is free
    if jax.process_index() == 0:
      stack.enter_context(lock)
      # Again, since a process may just have ended.
      recorded = workdir.check_workdir(setup.directory, setup.config)
      has_data = workdir.check_data(setup.directory, setup.data)
      parts.check_parts(setup.directory, setup.part_names)
  return Claim(lock, recorded, has_data)


def start_state(setup: Setup, claim: Claim) -> tuple[int, TrainState, Progress]:
  """Restores the newest checkpoint or initialises, and describes the run.

  Returns:
    The step that training starts after, the state, and what was not reported.

  Raises:
    UserError: all checkpoints are damaged, or the directory cannot be written
      to.
  """
  first_step, state, progress = restore.restore_newest(
    setup.directory,
    setup.trainer.state,
    Progress(task_of(setup.config).empty_window()),
  )
  with agreement.require_same_on_all_processes():  # that it can be written to
    if first_step:
      check_state(state, f'checkpoint {first_step} of {setup.directory}')
    if jax.process_index() == 0:
      _describe(setup, claim, first_step)
  if not first_step:
    state = setup.trainer.create_state(
      initialize.shard_pretrained(setup.pretrained, setup.trainer.state)
    )
    setup.pretrained.clear()  # frees memory
  elif jax.process_index() == 0:
    if first_step == setup.num_steps:
      print(
        f'The run is complete: step {first_step} of {first_step}. It is '
        'evaluated again; a larger config.num_epochs would resume it'
      )
    else:
      print(f'Resuming from step {first_step} of {setup.num_steps}')
    has_schedule = 'optimizer' not in setup.part_names
    if has_schedule and (
      line := changes.describe_changes(
        claim.recorded, setup.config, first_step, setup.steps_per_epoch
      )
    ):
      print(line)
  return first_step, state, progress


def _describe(setup, claim, first_step):
  """Writes and prints what the run is."""
  overview = parameter_overview.get_parameter_overview(
    setup.trainer.state.params, include_stats=False
  )
  parts.write_parts(setup.directory, setup.part_names)
  workdir.describe_run(
    setup.directory,
    setup.config,
    setup.train_source.class_names,
    overview,
    setup.data,
  )
  print(summary.describe_start(setup, first_step), flush=True)
  warn_of_layers_without_kernels(setup.trainer, setup.config)
  if warning := identity.overlap_warning(setup.train_source, setup.eval_source):
    print(warning)
  for line in setup.label_notes:
    print(line)
  if setup.saved_steps and not claim.has_data:
    print('The run had not recorded its data; this is recorded now')
