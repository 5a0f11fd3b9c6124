"""What nvcc makes of the GPU kernels; skipped where there is none."""

import shutil

import pytest

from convmixer_jax.kernels.gpu import instances, shared_memory
from scripts import count_gpu_kernels
from scripts.count_gpu_kernels import EPILOGUES, GPUS, SHAPES

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
    shared_bytes=shared_memory.limit(GPUS[arch].capability),
  )
  launch = instance.launches[0]
  assert launch.shared_bytes <= shared_memory.limit(GPUS[arch].capability)
  return count_gpu_kernels.compile_instance(instance, arch)


# Bytes stored and loaded of kernels that are fused, by the code of a row and
# before it; of the images of the networks, which one block is as wide as.
def spilled_at_most(size, epilogue):
  if size <= 6 or not epilogue:
    return 0
  if 'gradient' in epilogue:
    return {7: 16, 8: 96, 9: 160}[size]  # of 460 instructions a row
  return {7: 0, 8: 16, 9: 32}[size]


@pytest.mark.parametrize('arch', GPUS)
@pytest.mark.parametrize('size', instances.SIZES)
def test_kernels_spill_few_registers(size, arch):
  compiled = {
    (kind, epilogue): compile_instance(kind, '2', size, arch, epilogue)
    for kind, epilogue in (
      ('kernel_gradient', ''),
      *(('forward', epilogue) for epilogue in EPILOGUES),
    )
  }
  assert max(one.registers for one in compiled.values()) <= REGISTERS
  too_many = {
    name: one.spilled_bytes
    for name, one in compiled.items()
    if one.spilled_bytes > spilled_at_most(size, name[1])
  }
  assert not too_many


# Blocks side by side in an image load the columns of their neighbours, too.
@pytest.mark.parametrize('arch', GPUS)
@pytest.mark.parametrize('epilogue', EPILOGUES)
def test_largest_kernel_of_wide_images_spills_little(epilogue, arch):
  compiled = compile_instance('forward', '4, neighbours', 9, arch, epilogue)
  assert compiled.registers <= REGISTERS
  most = 256 if 'gradient' in epilogue else 96 if epilogue else 32
  assert compiled.spilled_bytes <= most


@pytest.mark.parametrize('kind', instances.KINDS)
def test_even_size_and_neighbours_spill_no_register(kind):
  compiled = compile_instance(kind, '4, neighbours', 8, 'sm_90a')
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes == 0


@pytest.mark.parametrize('layout', ['1', '4'])
def test_other_layouts_spill_no_more(layout):
  for epilogue in EPILOGUES:
    compiled = compile_instance('forward', layout, 9, 'sm_90a', epilogue)
    assert compiled.registers <= REGISTERS
    assert compiled.spilled_bytes <= spilled_at_most(9, epilogue)


@pytest.mark.parametrize('layout', SHAPES)
def test_kernel_gradient_spills_no_register_in_any_layout(layout):
  compiled = compile_instance('kernel_gradient', layout, 9, 'sm_90a')
  assert compiled.registers <= REGISTERS
  assert compiled.spilled_bytes == 0
