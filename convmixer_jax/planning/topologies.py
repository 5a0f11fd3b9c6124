"""Devices of an absent topology; they can only be compiled for."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from convmixer_jax.errors import UserError
from convmixer_jax.kernels.gpu import library
from convmixer_jax.planning.chips import (
  Chip,
  gpu_target_config,
  unknown_topology,
)


def describe_devices(topology: str, chip: Chip, layout: str) -> Sequence[Any]:
  """Returns the devices of a topology, to compile for only.

  Programs for NVIDIA GPUs will have this package's kernels, as on such a GPU.

  Raises:
    UserError: the compiler is not installed, is in use by another process, or
      knows no such topology.
  """
  if chip.platform == 'tpu':
    if importlib.util.find_spec('libtpu') is None:
      raise UserError(
        'a plan for a TPU needs its compiler, libtpu; on any Linux machine: '
        "pip install 'jax[tpu]'"
      )
    # One device a chip, as on Cloud TPU; only v4 has another mode.
    arguments = {'topology_name': topology}
    if topology.startswith('v4:'):
      arguments['chip_config_name'] = 'megacore'
  else:
    if not has_cuda_plugin():
      raise UserError(
        'a plan for an NVIDIA GPU needs the CUDA plugin: '
        'pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt'
        f' (both =={jax.__version__})'
      )
    library.compile_for_absent_gpus()
    arguments = {
      'topology_name': topology,
      'topology': f'1x{layout}',
      'target_config': gpu_target_config(chip),
    }
  try:
    return topologies.get_topology_desc(
      platform=chip.platform, **arguments
    ).devices
  except jax.errors.JaxRuntimeError as error:
    if 'lockfile' in str(error):
      raise UserError(
        'another process uses libtpu, which admits one at a time; wait until '
        'it ends (or, if there is none, remove /tmp/libtpu_lockfile)'
      ) from error
    raise unknown_topology(topology) from error


def has_cuda_plugin() -> bool:
  """Whether JAX can compile for NVIDIA GPUs."""
  try:
    return any(
      importlib.util.find_spec(f'jax_plugins.xla_cuda{version}')
      for version in (12, 13)
    )
  except ModuleNotFoundError:  # no plugin at all
    return False
