"""Counts what the GPU kernels need, by compiler and emulator, without a GPU.

  PYTHONPATH=.:tests/support python scripts/count_gpu_kernels.py > counts.csv

Needs nvcc; cuobjdump for the columns of instructions, which are empty without
it. A row of a thread block is one row of 16 strips of 16 columns and 16
channels. `bound` is the resource that takes most cycles a row: of the memory at
90 % of its speed, of the instructions that the schedulers issue, of the tensor
cores, of shared memory. What waits for what is not counted, so a kernel is
slower than its bound.
"""

import collections
import csv
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from convmixer_jax.kernels import gpu
from convmixer_jax.kernels.gpu import instances, shared_memory
from convmixer_jax.kernels.gpu.instances import Epilogue, Instance

CSRC = pathlib.Path(gpu.__file__).parent / 'csrc'
WARPS, SCHEDULERS = 16, 4  # of a thread block, and of a multiprocessor
BYTES = 16 * 16 * 16 * 2  # of an array's row


class Gpu(NamedTuple):
  """What a GPU has, by its data sheet.

  product_cycles: of a 16x8x16 product by mma.sync on a multiprocessor. On an
    H100 it reaches about 62 % of the data sheet's rate; on a B200 it is assumed
    to take as long.
  """

  name: str
  capability: str
  multiprocessors: int
  gigahertz: float
  terabytes_per_second: float
  product_cycles: float

  def memory_cycles(self, num_bytes: float) -> float:
    """Returns the cycles of a multiprocessor's share of the memory."""
    share = self.terabytes_per_second * 0.9e3 / self.multiprocessors
    return num_bytes * self.gigahertz / share


GPUS = {
  'sm_80': Gpu('A100', '8.0', 108, 1.41, 2.04, 2.0),
  'sm_90a': Gpu('H100', '9.0', 132, 1.755, 3.35, 1.6),
  'sm_100': Gpu('B200', '10.0', 148, 1.85, 8.0, 1.6),
}
# An image for each layout of strips.
SHAPES = {
  '1': (64, 16, 16, 1024),
  '2': (64, 32, 32, 768),
  '4': (64, 56, 56, 256),
  '4, neighbours': (64, 112, 112, 256),
}
EPILOGUES = {
  '': Epilogue(),
  'residual': Epilogue(residual=True),
  'ReLU sums': Epilogue('relu', sums=True),
  'GELU sums': Epilogue('gelu', sums=True),
  'GELU scale residual': Epilogue('gelu', scale=True, residual=True),
  'ReLU gradient': Epilogue('relu', gradient=True),
  'GELU gradient': Epilogue('gelu', gradient=True),
}


COLUMNS = (
  'kernel',
  'size',
  'strips side by side',
  'epilogue',
  'GPU',
  'registers',
  'spilled bytes',
  'shared bytes',
  'instructions',
  'memory cycles',
  'issue cycles',
  'tensor cycles',
  'shared cycles',
  'bound',
)


class Compiled(NamedTuple):
  """What the compiler says of an instance's first kernel.

  instructions: of a warp in a row; None without cuobjdump. Of branches that
    only some rows take, all are counted.
  """

  registers: int
  spilled_bytes: int
  instructions: float | None


def compile_instance(
  instance: Instance, arch: str, cuobjdump: str | None = None
) -> Compiled:
  """Compiles an instance by nvcc. Raises CalledProcessError if it cannot."""
  with tempfile.TemporaryDirectory() as directory:
    cubin = f'{directory}/kernel.cubin'
    log = _run(
      'nvcc',
      f'-arch={arch}',
      '-std=c++17',
      '-cubin',
      '-Xptxas=-v',
      *(f'-D{name}={value}' for name, value in instance.defines),
      f'-o={cubin}',
      str(CSRC / instance.source),
    )
    entry = instance.launches[0].entry
    log = log[log.index(f"entry function '{entry}'") :]
    match = re.search(r'(\d+) bytes spill stores, (\d+) bytes spill load', log)
    registers = re.search(r'Used (\d+) registers', log)
    instructions = None
    if cuobjdump:
      sass = _run(cuobjdump, '-sass', '-fun', entry, cubin)
      instructions = _instructions_a_row(sass, dict(instance.defines))
  return Compiled(
    int(registers[1]), int(match[1]) + int(match[2]), instructions
  )


def _instructions_a_row(sass, defines):
  """Returns those of a turn of the loop over rows; loops within have two turns.

  Of the code that there is for each phase, the mean of all phases: it lies
  between the first product and where its parts jump to.
  """
  found = re.findall(r'^\s+/\*([0-9a-f]{4,})\*/\s+(.*);', sass, re.MULTILINE)
  lines = {int(at, 16): text for at, text in found if 'NOP' not in text}
  branches = [
    (at, int(branch[1], 16))
    for at, text in lines.items()
    if (branch := re.search(r'\bBRA.* 0x([0-9a-f]+)', text))
  ]
  products = [at for at, text in lines.items() if text.startswith('HMMA')]
  last, first = next(
    (at, to) for at, to in branches if to < products[0] < products[-1] < at
  )
  phases_end = collections.Counter(
    to for at, to in branches if products[0] < at < products[-1] < to < last
  ).most_common(1)[0][0]
  loop = [at for at in lines if first <= at <= last]
  of_phases = sum(products[0] <= at < phases_end for at in loop)
  second_turns = sum(  # of loops within a row
    to <= at <= end
    for end, to in branches
    if first < to < end < last
    for at in loop
  )
  phases = defines['KERNEL_SIZE']
  return len(loop) - of_phases * (1 - 1 / phases) + second_turns


def _run(*command):
  result = subprocess.run(command, capture_output=True, text=True, check=True)
  return result.stdout + result.stderr


def cases() -> list[tuple[str, str, int, str]]:
  """Returns kinds, layouts, sizes and epilogues worth a row of the table."""
  plain = [(kind, '2', k, '') for kind in instances.KINDS for k in range(3, 10)]
  layouts = itertools.product(instances.KINDS, ('1', '4', '4, neighbours'))
  return [
    *plain,
    *((kind, layout, 9, '') for kind, layout in layouts),
    *(
      ('forward', '2', size, epilogue)
      for size in (7, 9)
      for epilogue in EPILOGUES
      if epilogue
    ),
  ]


def arrays(kind: str, epilogue: Epilogue) -> int:
  """Returns how many arrays are read or written."""
  # A gradient reads z and writes dy; x is in the L2 cache when it is added.
  return 2 + epilogue.residual + 2 * epilogue.gradient


def count(emulator, kind, layout, size, name) -> tuple[float, float]:
  """Returns cycles of shared memory and products of a block's row."""
  import numpy as np

  counts = []
  for rows in (2 * size, 4 * size):
    tiles = dict(_instance(kind, layout, size, name).defines)['TILES']
    shape = (16 // tiles, rows, SHAPES[layout][2], 16)
    instance = _instance(kind, layout, size, name, shape)
    buffers = {
      array: np.zeros(shape, np.uint16)
      for array in ('x', 'y', 'dy', 'residual', 'z')
    }
    buffers |= {
      'kernel': np.zeros((size, size, 16), np.uint16),
      'factor': np.zeros(16, np.float32),
      'coefficients': np.zeros((3, 16), np.float32),
      'sums': np.zeros((size * size + 1, 16), np.float32),
    }
    counts.append(emulator.run(instance, buffers))
  blocks = instance.launches[0].grid[0] * 2 * size
  short, long = counts
  return (
    (long.shared_cycles - short.shared_cycles) / blocks,
    (long.products - short.products) / blocks,
  )


def _instance(kind, layout, size, name, shape=None, capability='8.0'):
  return instances.instance(
    kind,
    shape or SHAPES[layout],
    size,
    (size - 1) // 2,
    EPILOGUES[name],
    bands=1,
    shared_bytes=shared_memory.limit(capability),
  )


def main() -> None:
  """Prints the table as CSV."""
  import gpu_emulator

  cuobjdump = shutil.which('cuobjdump')
  writer = csv.writer(sys.stdout, lineterminator='\n')
  writer.writerow(COLUMNS)
  with tempfile.TemporaryDirectory() as directory:
    emulator = gpu_emulator.Emulator(pathlib.Path(directory))
    for kind, layout, size, name in cases():
      shared, products = count(emulator, kind, layout, size, name)
      for arch, chip in GPUS.items():
        instance = _instance(
          kind, layout, size, name, capability=chip.capability
        )
        compiled = compile_instance(instance, arch, cuobjdump)
        cycles = {
          'memory': chip.memory_cycles(BYTES * arrays(kind, EPILOGUES[name])),
          'issue': (compiled.instructions or 0) * WARPS / SCHEDULERS,
          'tensor': products * chip.product_cycles,
          'shared': shared,
        }
        row = [kind, size, layout, name, chip.name, *compiled[:2]]
        row += [instance.launches[0].shared_bytes]
        row += [f'{compiled.instructions or 0:.0f}']
        row += [f'{value:.0f}' for value in cycles.values()]
        writer.writerow([*row, max(cycles, key=cycles.get)])
        sys.stdout.flush()


if __name__ == '__main__':
  main()
