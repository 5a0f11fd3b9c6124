"""Bytes that a compiled program moves: through memory and between devices.

XLA's own count (`compiled.cost_analysis()`) counts a loop's body once, has
no collectives, takes VMEM for HBM, and is missing on NVIDIA ahead of time.
"""

import dataclasses
import re
from collections import Counter

from convmixer_jax.planning.hlo import Module

_COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
  'collective-broadcast',
)
# These move nothing themselves: the bodies of loops are counted as such, and
# what ends an asynchronous operation was counted at its start.
_FREE = (
  'parameter',
  'constant',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'while',
  'call',
  'conditional',
  'after-all',
  'partition-id',
  'replica-id',
)
_SLICES = ('dynamic-slice', 'slice', 'gather')


@dataclasses.dataclass(frozen=True)
class Collective:
  """All collectives of a kind and dtype in a run of the program.

  Attributes:
    kind: such as 'all-reduce'.
    dtype: as HLO spells it; 'bf16+f32' for several in one.
    count: how often one is run.
    num_bytes: of the whole array, on each device, all together.
  """

  kind: str
  dtype: str
  count: int
  num_bytes: int


def collectives(module: Module) -> list[Collective]:
  """Lists the collectives, in loops too, those with most bytes first."""
  counts: Counter[tuple[str, str]] = Counter()
  sizes: Counter[tuple[str, str]] = Counter()
  chains = set()
  for name, times in module.executions.items():
    computation = module.computations[name]
    for instruction in computation.values():
      kind = instruction.opcode.removesuffix('-start')
      if kind not in _COLLECTIVES:
        continue
      if 'chain_id=' in instruction.attributes:
        # So XLA:TPU marks what several fusions do step by step: each of them
        # has the whole of it.
        (channel,) = re.findall(r'channel_id=(\d+)', instruction.attributes)
        if channel in chains:
          continue
        chains.add(channel)
      if kind == 'all-reduce' and 'all-reduce-scatter' in name:
        kind = 'reduce-scatter'  # so XLA:TPU writes it: with a slice, fused
      operands = _operand_arrays(instruction, computation)
      dtype = '+'.join(sorted({array.dtype for array in operands}))
      counts[kind, dtype] += times
      sizes[kind, dtype] += times * max(
        _num_bytes(operands), _num_bytes(_result(instruction, computation))
      )
  return [
    Collective(kind, dtype, counts[kind, dtype], num_bytes)
    for (kind, dtype), num_bytes in sizes.most_common()
  ]


def _result(instruction, computation):
  """Returns the arrays of the result, also of an asynchronous start."""
  for other in computation.values():
    if other.opcode == f'{instruction.opcode.removesuffix("-start")}-done' and (
      instruction.name in other.operands
    ):
      return other.arrays
  return instruction.arrays


def memory_traffic(module: Module) -> int:
  """Returns the bytes that a run reads from and writes to main memory.

  Each instruction reads its operands and writes its results; within a fusion
  nothing is; of a slice, only what is sliced. What XLA placed on the chip (VMEM
  of a TPU) is not counted, nor what layouts pad. How good caches are is not
  known, so a GPU may move less.
  """
  total = 0
  for name, times in module.executions.items():
    if name not in module.fused:
      computation = module.computations[name]
      total += times * sum(
        _traffic(instruction, computation, module)
        for instruction in computation.values()
      )
  return total


def _traffic(instruction, computation, module):
  """Bytes that one instruction outside a fusion moves."""
  opcode = instruction.opcode
  if opcode in _FREE or opcode.endswith(('-done', '-update')):
    return 0
  if opcode == 'custom-call' and 'Bitcast"' in instruction.attributes:
    return 0  # XLA:TPU takes pieces that lie side by side for one array
  if opcode == 'fusion':
    return _fusion_traffic(instruction, computation, module)
  results = instruction.arrays
  operands = _operand_arrays(instruction, computation)
  if opcode in ('copy-start', 'slice-start'):
    ends = [array for array in results if array.size > 1]
    return sum(array.space == 0 for array in ends) * min(
      (array.num_bytes for array in ends), default=0
    )
  if opcode in _SLICES:  # reads no more than it gives
    return _in_memory(results) + (operands[0].space == 0) * _num_bytes(results)
  if opcode == 'dynamic-update-slice':  # writes its second operand in place
    update = operands[1]
    return _in_memory([update]) + (results[0].space == 0) * update.num_bytes
  return _in_memory(operands) + _in_memory(results)


def _fusion_traffic(fusion, computation, module):
  (called,) = fusion.called
  inner = module.computations[called]
  read = sum(
    _read(_parameter(inner, place), inner, module)
    for place, name in enumerate(fusion.operands)
    if computation[name].arrays[0].space == 0
  )
  parts = [_root(inner)]
  if parts[0].opcode == 'tuple':
    parts = [inner[name] for name in parts[0].operands]
  if len(parts) != len(fusion.arrays):  # a reduction that gives several
    return read + _in_memory(fusion.arrays)
  written = sum(
    _written(part, inner, module)
    for array, part in zip(fusion.arrays, parts, strict=True)
    if array.space == 0
  )
  return read + written


def _read(value, computation, module):
  """Bytes of `value` that a fused computation needs."""
  total = 0
  for user in computation.values():
    if value.name not in user.operands:
      continue
    if user.opcode == 'bitcast':
      total += _read(user, computation, module)
    elif user.opcode in _SLICES and user.operands[0] == value.name:
      total += _num_bytes(user.arrays)
    elif user.opcode == 'fusion':
      (called,) = user.called
      inner = module.computations[called]
      total += sum(
        _read(_parameter(inner, place), inner, module)
        for place, name in enumerate(user.operands)
        if name == value.name
      )
    elif not _updates(user, value.name):
      return _num_bytes(value.arrays)
  return min(total, _num_bytes(value.arrays))


def _written(value, computation, module):
  """Bytes of `value`, a result of a fused computation, that are new."""
  while value.opcode == 'bitcast':
    value = computation[value.operands[0]]
  if value.opcode == 'dynamic-update-slice':
    return _num_bytes(computation[value.operands[1]].arrays)
  if value.opcode == 'fusion':
    (called,) = value.called
    inner = module.computations[called]
    return _written(_root(inner), inner, module)
  return _num_bytes(value.arrays)


def _updates(user, name):
  return user.opcode == 'dynamic-update-slice' and user.operands[0] == name


def _parameter(computation, place):
  return next(
    instruction
    for instruction in computation.values()
    if instruction.opcode == 'parameter' and instruction.argument == str(place)
  )


def _root(computation):
  return next(i for i in computation.values() if i.is_root)


def _operand_arrays(instruction, computation):
  return [
    array for name in instruction.operands for array in computation[name].arrays
  ]


def _in_memory(arrays):
  return _num_bytes(array for array in arrays if array.space == 0)


def _num_bytes(arrays):
  return sum(array.num_bytes for array in arrays)
