"""Specifications of the chips that a plan can be made for."""

import dataclasses
import re

from convmixer_jax.errors import UserError

_GIB = 2**30

# Makes JAX and libtpu use no chips; set before they start.
ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_LOG_DIR': 'disabled',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """A chip; a JAX device is a whole one.

  Attributes:
    name: as people call it.
    flops: peak operations a second of matrix products in bfloat16, dense.
    bandwidth: of the main memory, bytes a second.
    memory: bytes that a program may use.
    platform: 'tpu' or 'cuda'.
    target: for 'cuda', what XLA needs to know about this GPU.
  """

  name: str
  flops: float
  bandwidth: float
  memory: int
  platform: str = 'tpu'
  target: str = ''


def _gpu_memory(gib):
  return round(gib * _GIB * 0.75)  # JAX's XLA_PYTHON_CLIENT_MEM_FRACTION


# TPUs: cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e; of the 32, 16, 95 and
# 32 GB there, the memory that libtpu 0.0.42 lets a program have.
# GPUs: NVIDIA's data sheets of A100 (80 GB, SXM) and H100 (SXM), and the table
# of limits per compute capability in the CUDA C++ Programming Guide.
CHIPS = {
  'v4': Chip('TPU v4', 275e12, 1200e9, round(30.75 * _GIB)),
  'v5e': Chip('TPU v5e', 197e12, 819e9, round(15.75 * _GIB)),
  'v5p': Chip('TPU v5p', 459e12, 2765e9, round(95.74 * _GIB)),
  'v6e': Chip('TPU v6e', 918e12, 1600e9, round(31.25 * _GIB)),
  'a100': Chip(
    'NVIDIA A100-SXM4-80GB',
    312e12,
    2039e9,
    _gpu_memory(80),
    'cuda',
    'core_count: 108 fpus_per_core: 64 clock_rate_ghz: 1.41'
    ' memory_bandwidth: 2039000000000 device_memory_size: 85899345920'
    ' l2_cache_size: 41943040 shared_memory_per_core: 167936'
    ' shared_memory_per_block_optin: 166912'
    ' cuda_compute_capability { major: 8 }',
  ),
  'h100': Chip(
    'NVIDIA H100 80GB HBM3',
    989e12,
    3350e9,
    _gpu_memory(80),
    'cuda',
    'core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98'
    ' memory_bandwidth: 3350000000000 device_memory_size: 85899345920'
    ' l2_cache_size: 52428800 shared_memory_per_core: 233472'
    ' shared_memory_per_block_optin: 232448'
    ' cuda_compute_capability'
    ' { major: 9 feature_extension: ACCELERATED_FEATURES }',
  ),
}
_EXAMPLES = {
  'v4': '2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4',
  'v5e': '2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16',
  'v5p': '2x2x1, 2x2x2, 2x4x4, 4x4x4',
  'v6e': '2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16',
  'a100': '1x8, HOSTSxGPUS',
  'h100': '1x8, HOSTSxGPUS',
}
_GPU_LIMITS = (
  'threads_per_block_limit: 1024 threads_per_warp: 32'
  ' threads_per_core_limit: 2048 shared_memory_per_block: 49152'
  ' registers_per_core_limit: 65536 registers_per_block_limit: 65536'
  ' block_dim_limit_x: 2147483647 block_dim_limit_y: 65535'
  ' block_dim_limit_z: 65535 thread_dim_limit_x: 1024'
  ' thread_dim_limit_y: 1024 thread_dim_limit_z: 64'
)


def parse_topology(topology: str) -> tuple[Chip, str]:
  """Splits 'v5e:4x4' into the chip and its layout '4x4'.

  Raises:
    UserError: it is not CHIP:LAYOUT with a chip of `CHIPS`, or of another
      dimension.
  """
  name, _, layout = topology.partition(':')
  dimension = 3 if name in ('v4', 'v5p') else 2
  if name not in CHIPS or not re.fullmatch(
    'x'.join([r'[1-9]\d*'] * dimension), layout
  ):
    raise unknown_topology(topology)
  return CHIPS[name], layout


def unknown_topology(topology: str) -> UserError:
  """Returns the error that lists the known topologies."""
  known = '; '.join(f'{chip}: {sizes}' for chip, sizes in _EXAMPLES.items())
  return UserError(f'--topology={topology} is unknown; there are {known}')


def gpu_target_config(chip: Chip) -> str:
  """Returns XLA's description of a GPU (text of a `GpuTargetConfigProto`)."""
  return (
    f'platform_name: "CUDA" device_description_str: "{chip.name}"'
    ' dnn_version_info { major: 9 minor: 8 }'
    f' gpu_device_info {{ name: "{chip.name}" {_GPU_LIMITS} {chip.target} }}'
  )
