r"""Trains many runs that one file describes, and resumes what was cut off.

  convmixer sweep --sweep=configs/sweeps/digits.py --workdir=runs/widths

  convmixer sweep --sweep=digits --workdir=runs/widths --jobs=2 --dry_run

Each run is an ordinary run in a directory of its own, WORKDIR/NAME, and its log
is WORKDIR/sweep/NAME/log.txt. The same command again starts what is missing.
docs/sweeps.md explains the file; convmixer compare WORKDIR shows the results.
"""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax import files
from convmixer_jax.cli import command, output, program
from convmixer_jax.errors import UserError
from convmixer_jax.notes import note

if TYPE_CHECKING:
  from convmixer_jax.sweeps.executor import Executor
  from convmixer_jax.sweeps.plan import Plan

_SWEEP = flags.DEFINE_string(
  'sweep',
  None,
  'file of the sweep, such as configs/sweeps/digits.py; add :VARIANT to choose '
  'a variant',
  required=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'directory of the sweep, which gets a directory for each run; a sweep in it '
  'is continued',
  required=True,
)
_JOBS = flags.DEFINE_integer(
  'jobs',
  None,
  'runs at a time, which here share the cores and GPUs of this machine; '
  'default: 1, and with Slurm as many as it allows',
  lower_bound=1,
)
_EXECUTOR = flags.DEFINE_enum(
  'executor', 'local', ['local', 'slurm'], 'where the runs are started'
)
_SLURM = flags.DEFINE_list(
  'slurm',
  [],
  'parameters of submitit for the jobs of Slurm, as KEY=VALUE with commas, '
  'such as partition=gpu,time=240,gpus_per_node=1,cpus_per_task=8',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'list the runs with parameters, MACs and hours; write and start nothing',
)
_IMAGES_PER_SEC = flags.DEFINE_float(
  'images_per_sec',
  None,
  'training speed of the first run, for the hours of --dry_run; default: what '
  'runs in --workdir have measured',
  lower_bound=1e-9,
)
_PRINT_COMMANDS = flags.DEFINE_bool(
  'print_commands',
  False,
  'print a command for each run that is not complete, to start them elsewhere',
)


def main(argv: Sequence[str]) -> None:
  """Runs the sweep; prints its table."""
  command.refuse_arguments(argv)
  import jax

  from convmixer_jax.locks.directory_lock import DirectoryLock
  from convmixer_jax.sweeps import plan as plan_lib
  from convmixer_jax.sweeps.choices import restore_choices
  from convmixer_jax.sweeps.configs import load_sweep
  from convmixer_jax.sweeps.estimate import estimate, format_estimates

  output.keep_going()  # a sweep survives its terminal
  jax.config.update('jax_platforms', 'cpu')  # devices are for the runs
  workdir = _WORKDIR.value or ''
  if not _PRINT_COMMANDS.value and not _DRY_RUN.value:
    files.require_local(workdir, '--workdir')
  plan = plan_lib.make_plan(load_sweep(_SWEEP.value or ''), workdir)
  restore_choices(plan)
  if _DRY_RUN.value:
    estimates = estimate(plan, _IMAGES_PER_SEC.value)
    print(format_estimates(estimates, _JOBS.value or 1))
    return
  plan_lib.check_unchanged(plan)
  plan_lib.check_data_and_networks(plan)
  executor = _create_executor(plan)
  with DirectoryLock(plan.workdir):
    plan_lib.check_unchanged(plan)  # another process may just have ended
    if _PRINT_COMMANDS.value:
      _print_commands(plan)
    else:
      _run(plan, executor)


def _create_executor(plan: 'Plan') -> 'Executor':
  from convmixer_jax.sweeps.local import LocalExecutor

  if _EXECUTOR.value == 'slurm':
    from convmixer_jax.sweeps.slurm import SlurmExecutor

    slurm = SlurmExecutor(_WORKDIR.value or '', _JOBS.value, _SLURM.value)
    slurm.adopt(plan.runs)
    return slurm
  if _SLURM.value:
    raise UserError('--slurm is for --executor=slurm; give both, or neither')
  # More jobs than runs would leave cores without work.
  return LocalExecutor(min(_JOBS.value or 1, len(plan.runs)))


def _run(plan: 'Plan', executor: 'Executor') -> None:
  """Runs the sweep; ends the process with status 1 if a run failed."""
  from convmixer_jax.sweeps import plan as plan_lib
  from convmixer_jax.sweeps.runner import Runner
  from convmixer_jax.sweeps.table import Table, format_table

  if surplus := plan_lib.surplus_runs(plan):
    note(
      f'{plan.workdir} has runs that the sweep lacks: {", ".join(surplus)}; '
      'they stay as they are'
    )
  num_runs = len(plan.runs)
  table = Table(_JOBS.value or (num_runs if _EXECUTOR.value == 'slurm' else 1))
  runner = Runner(plan, executor, table)
  try:
    runner.run()
  finally:
    table.clear()
    print('\n'.join(format_table(list(runner.entries.values()))), flush=True)
  if failed := runner.failed():
    for entry in failed:
      print(f'{entry.run.name} {entry.state}: {entry.error}', file=sys.stderr)
    raise UserError(
      f'{len(failed)} of {len(runner.entries)} runs failed; their logs are in '
      f'{plan.workdir / plan_lib.RECORDS}, and the same command tries them '
      'again'
    )
  workdir = shlex.quote(_WORKDIR.value or '')
  print(f'Compare them: {program.command_line()} compare {workdir}')


def _print_commands(plan: 'Plan') -> None:
  """Prints how to train each run that can start and is not complete."""
  from convmixer_jax.sweeps import plan as plan_lib
  from convmixer_jax.sweeps.local import LocalExecutor
  from convmixer_jax.sweeps.runner import Runner

  runner = Runner(plan, LocalExecutor(1), lambda *_: None)
  runner.choose()
  entries = runner.entries.values()
  for entry in entries:
    run = entry.run
    if run.config is not None and entry.is_open:
      config = plan_lib.write_config(run)
      print(
        f'{program.command_line()} train --config={shlex.quote(str(config))} '
        f'--workdir={shlex.quote(str(run.directory))}'
      )
  if any(entry.run.config is None for entry in entries):
    note(
      'runs whose value is chosen by trials are missing; print the commands '
      'again when the trials have ended'
    )
