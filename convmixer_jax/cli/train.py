"""Trains a network: `python train.py --config=... --workdir=...`."""

import signal
import sys

from absl import flags
from ml_collections import config_flags

from convmixer_jax.cli import command, output
from convmixer_jax.errors import Preempted

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'one of configs/, with its variant after a colon'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'where checkpoints and metrics go; go on with what is there'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  None,
  'train on all hosts of the Cloud TPU slice, or the Slurm, Open MPI or '
  'Kubernetes job, that this process is part of; by itself where srun or '
  'mpirun started several',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'elsewhere: host:port of process 0'
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'of all hosts')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'of this process')
flags.mark_flags_as_required(['config', 'workdir'])


def main(argv):
  """Trains, and prints the held-out accuracy as the last line."""
  command.refuse_arguments(argv)
  output.keep_going()  # a run must not be lost with its terminal
  # Until the loop looks to it, there is nothing to save.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(Preempted.EXIT_STATUS))
  import jax

  from convmixer_jax.distributed import cluster
  from convmixer_jax.training import loop

  cluster.join(
    _DISTRIBUTED.value,
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
  )
  results = loop.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  if jax.process_index() == 0:
    print(f'eval_accuracy = {results["eval_accuracy"]:.4f}')
