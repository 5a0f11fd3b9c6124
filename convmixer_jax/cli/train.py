r"""Trains a network, or resumes its training.

  python train.py --config=configs/digits.py --workdir=runs/digits

  convmixer train --config=imagenet:768_32 --workdir=gs://bucket/run \
    --config.batch_size=512

`--config.KEY=VALUE` sets any value of the config; docs/configuration.md lists
them. The same command resumes a run that was stopped, and so does `--workdir`
alone, with the config of the run.
"""

import signal
import sys
import threading
from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import command, output, program
from convmixer_jax.cli.config_flag import CONFIG
from convmixer_jax.errors import Preempted, UserError

_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'run directory for checkpoints and metrics; a run in it is resumed; required '
  'unless --dry_run or --overfit_one_batch is given',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'do everything up to the first step, report memory and time, write nothing',
)
_OVERFIT = flags.DEFINE_bool(
  'overfit_one_batch',
  False,
  'train on the first batch alone, without augmentation, until its loss is '
  'near 0; write nothing',
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  None,
  'train on all hosts of the Cloud TPU slice or of the Slurm, Open MPI or '
  'Kubernetes job that this process belongs to; default: if srun or mpirun '
  'started several processes',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator_address',
  None,
  'host:port of process 0, where the environment does not name it',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'total number of processes'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'number of this process, from 0'
)
flags.mark_flag_as_required('config')


def main(argv: Sequence[str]) -> None:
  """Trains, and prints the main held-out metric as the last line."""
  command.refuse_arguments(argv)
  _check_flags()
  output.keep_going()  # a run survives its terminal
  # Until the loop handles the signal, there is nothing to save.
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Preempted.EXIT_STATUS))
  import jax

  from convmixer_jax.distributed import cluster, preemption
  from convmixer_jax.training import ending, loop, tasks

  preemption.exit_at_second_interrupt()
  cluster.join(
    _DISTRIBUTED.value,
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
  )
  if _DRY_RUN.value:
    _dry_run()
    return
  if _OVERFIT.value:
    _overfit_one_batch()
    return
  workdir = _WORKDIR.value or ''  # which is given, see `_check_flags`
  results = loop.train_and_evaluate(CONFIG.value, workdir)
  # All is saved; a signal must not make a complete run one that was stopped.
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
  if jax.process_index() == 0:
    print(ending.describe_end(CONFIG.value, workdir, program.command_line()))
    main_metric = tasks.task_of(CONFIG.value).main_metric
    print(f'{main_metric} = {results[main_metric]:.4f}')


def _check_flags():
  if _DRY_RUN.value and _OVERFIT.value:
    raise UserError('give one of --dry_run and --overfit_one_batch')
  if _OVERFIT.value and _WORKDIR.value is not None:
    raise UserError(
      f'--overfit_one_batch keeps nothing; leave out --workdir={_WORKDIR.value}'
    )
  if not _DRY_RUN.value and not _OVERFIT.value and _WORKDIR.value is None:
    raise UserError(
      f'--workdir is missing; give it: {flags.FLAGS["workdir"].help}'
    )


def _dry_run():
  """Prints what a run needs."""
  import jax

  from convmixer_jax.planning.dry_run import dry_run

  text = dry_run(CONFIG.value, _WORKDIR.value)
  if jax.process_index() == 0:
    print(text)


def _overfit_one_batch():
  """Prints the losses of some steps, and whether the batch was learned."""
  import jax

  from convmixer_jax.training import overfit

  shown = jax.process_index() == 0
  step, loss = 0, float('nan')
  for step, loss in overfit.overfit_one_batch(
    overfit.without_augmentation(CONFIG.value)
  ):
    if shown and (step in (1, 2, 5) or step % 10 == 0):
      print(f'step {step:4}  loss {loss:.4f}', flush=True)
  if shown:
    print(
      f'One batch is learned: its loss is {loss:.4f} after {step} steps. '
      'Network, labels and optimizer work together'
    )
