"""Finding the other processes: from flags, Slurm, Open MPI; numbered output."""

import io
import os
import sys

import jax
import pytest
from absl import logging

from convmixer_jax.distributed import cluster
from convmixer_jax.errors import UserError

SRUN = {
  'SLURM_STEP_NODELIST': 'node[1-2]',
  'SLURM_NTASKS': '2',
  'SLURM_STEP_NUM_TASKS': '2',
  'SLURM_STEP_TASKS_PER_NODE': '1(x2)',
}
MPIRUN = {
  'OMPI_COMM_WORLD_SIZE': '2',
  'OMPI_COMM_WORLD_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '1',
}


@pytest.fixture
def join(monkeypatch):
  """Joins in an environment; returns how JAX was called, None if not."""
  for name in os.environ:
    if name.startswith(('SLURM_', 'OMPI_', 'TPU_', 'CUDA_', 'JAX_LOCAL')):
      monkeypatch.delenv(name)
  calls = []
  monkeypatch.setattr(
    jax.distributed,
    'initialize',
    lambda *args, **kwargs: calls.append((*args, kwargs['local_device_ids'])),
  )
  monkeypatch.setattr(cluster, '_number_lines', lambda: None)

  def call(environment, *args):
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    cluster.join(*args)
    return calls[0] if calls else None

  return call


@pytest.mark.parametrize(
  ('environment', 'arguments', 'expected'),
  [
    ({}, (None,), None),
    ({}, (True,), (None, None, None, None)),
    ({}, (None, 'host:1', 4, 3), ('host:1', 4, 3, None)),
    ({}, (False, 'host:1', 4, 3), None),
    (SRUN, (None,), (None, None, None, None)),
    (SRUN, (False,), None),
    # `srun --ntasks=1`, and the shell of `salloc --ntasks=2`.
    (SRUN | {'SLURM_NTASKS': '1', 'SLURM_STEP_NUM_TASKS': '1'}, (None,), None),
    (SRUN | {'SLURM_STEP_NUM_TASKS': '1'}, (None,), None),
    ({'SLURM_NTASKS': '2'}, (None,), None),  # a batch script, without srun
    (
      SRUN | {'CUDA_VISIBLE_DEVICES': '4,5,6'},
      (None,),
      (None, None, None, [0, 1, 2]),
    ),
    (
      SRUN
      | {'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_STEP_TASKS_PER_NODE': '2(x3),1'},
      (None,),
      (None, None, None, None),
    ),
    (MPIRUN, (None,), (None, None, None, None)),
    (  # mpirun starts its daemons by a step of one task each
      SRUN
      | MPIRUN
      | {'OMPI_COMM_WORLD_LOCAL_SIZE': '2', 'CUDA_VISIBLE_DEVICES': '0,1'},
      (None,),
      (None, None, None, None),
    ),
    (MPIRUN, (None, 'host:1'), ('host:1', 2, 1, None)),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, (None,), (None, None, None, None)),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, (None,), None),
  ],
)
def test_other_processes_are_found_from_flags_and_environment(
  join, environment, arguments, expected
):
  assert join(environment, *arguments) == expected


def test_process_flags_without_an_address_are_refused(join):
  with pytest.raises(UserError, match='--process_id need'):
    join({}, None, None, 2, 0)


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (ValueError('no address'), 'are not known .no address.: neither Cloud TPU'),
    (RuntimeError('DEADLINE'), 'could not connect .DEADLINE.; start all'),
  ],
)
def test_failed_join_is_reported_in_one_line(monkeypatch, error, message):
  def fail(*_, **__):
    raise error

  monkeypatch.setattr(jax.distributed, 'initialize', fail)
  with pytest.raises(UserError, match=message):
    cluster.join(True)


def test_printed_lines_are_prefixed_with_the_process(monkeypatch):
  out, err = io.StringIO(), io.StringIO()
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(sys, 'stderr', err)
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  monkeypatch.setattr(jax, 'process_count', lambda: 4)
  handler = logging.get_absl_handler().python_handler
  before = handler.stream
  try:
    cluster._number_lines()
    print('a', 'b', flush=True)
    print('c\n\nd', end='')
    print('e')
    print('told', file=sys.stderr)
    assert handler.stream is sys.stderr
  finally:
    handler.setStream(before)
  assert out.getvalue() == '[1/4] a b\n[1/4] c\n[1/4] \n[1/4] de\n'
  assert err.getvalue() == '[1/4] told\n'
  assert not sys.stdout.isatty()
