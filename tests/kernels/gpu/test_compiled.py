"""What nvcc makes of the GPU kernels; skipped where there is none."""

import shutil

import pytest

from convmixer_jax.kernels.gpu import instances, shared_memory
from scripts import count_gpu_kernels
from scripts.count_gpu_kernels import EPILOGUES, SHAPES

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not shutil.which('nvcc'), reason='there is no nvcc'),
]

# 512 threads share 65,536 registers.
REGISTERS = 128


def compile_instance(kind, layout, size, arch, epilogue=''):
  instance = instances.instance(
    kind,
    SHAPES[layout],
    size,
    (size - 1) // 2,
    EPILOGUES[epilogue],
    shared_bytes=shared_memory.limit(count_gpu_kernels.GPUS[arch].capability),
  )
  return count_gpu_kernels.compile_instance(instance, arch)


@pytest.mark.parametrize('arch', count_gpu_kernels.GPUS)
@pytest.mark.parametrize('kind', instances.KINDS)
@pytest.mark.parametrize('size', [7, 9])
def test_kernels_of_the_networks_spill_no_register(kind, size, arch):
  compiled = compile_instance(kind, '2', size, arch)
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes == 0


@pytest.mark.parametrize('kind', instances.KINDS)
def test_even_size_and_neighbours_spill_no_register(kind):
  compiled = compile_instance(kind, '4, neighbours', 8, 'sm_90a')
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes == 0


# Bytes stored and loaded, by the code of a row and before it.
SPILLED = {name: 32 for name in EPILOGUES if name} | {
  # Of 460 instructions a row.
  'ReLU gradient': 256,
  'GELU gradient': 256,
}


@pytest.mark.parametrize('epilogue', SPILLED)
def test_largest_kernel_with_an_epilogue_spills_little(epilogue):
  compiled = compile_instance('forward', '2', 9, 'sm_90a', epilogue)
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes <= SPILLED[epilogue]


@pytest.mark.parametrize('epilogue', SPILLED)
def test_kernel_of_7_with_an_epilogue_spills_hardly_any_register(epilogue):
  compiled = compile_instance('forward', '2', 7, 'sm_90a', epilogue)
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes <= 16
