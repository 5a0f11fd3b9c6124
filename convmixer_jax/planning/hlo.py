"""Parses the text of a compiled HLO module.

Only what `hlo_costs.py` needs: which instruction works on which arrays, which
computation calls which, and how often.
"""

import dataclasses
import re
from collections import Counter
from functools import cached_property

_COMPUTATION = re.compile(r'(ENTRY )?%(\S+) .*\{$')
_INSTRUCTION = re.compile(r'\s+(ROOT )?%(\S+) = (.*)')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\](?:\{([^}]*)\})?')
_OPCODE = re.compile(r'\s*([\w-]+)\(')
_NAME = re.compile(r'%([\w.-]+)')
_CALLED = re.compile(
  r'(?:calls|body|condition|true_computation|false_computation)=%([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_SPACE = re.compile(r'S\((\d+)\)')
_CALLERS = ('while', 'fusion', 'call', 'conditional', 'async-start')


@dataclasses.dataclass(frozen=True)
class Array:
  """An array that an instruction returns.

  Attributes:
    dtype: as HLO spells it: 'bf16', 'f32', 'pred'.
    size: number of elements.
    space: memory it is in; 0 is the main one, on a TPU 1 is VMEM.
  """

  dtype: str
  size: int
  space: int

  @property
  def num_bytes(self) -> int:
    """Bytes without the padding of the layout."""
    if self.dtype == 'pred':
      return self.size
    bits = re.search(r'\d+', self.dtype)
    return self.size * int(bits[0]) // 8 if bits else 0  # a token has none


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation.

  Attributes:
    name: unique in the module.
    opcode: such as 'fusion' or 'all-reduce-start'.
    arrays: what it gives; several if that is a tuple.
    operands: names of the instructions it works on.
    argument: text in the parentheses: of a constant, its value.
    attributes: text behind them.
    is_root: whether it is the result of its computation.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  argument: str
  attributes: str
  is_root: bool

  @property
  def called(self) -> list[str]:
    """Computations that it runs as a whole, not for each element."""
    if self.opcode not in _CALLERS:
      return []
    branches = _BRANCHES.search(self.attributes)
    return _CALLED.findall(self.attributes) + (
      _NAME.findall(branches[1]) if branches else []
    )


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: by name, their instructions by name.
    entry: name of the one that is run.
  """

  computations: dict[str, dict[str, Instruction]]
  entry: str

  @cached_property
  def executions(self) -> Counter[str]:
    """How often each computation runs when the program runs once.

    A loop of unknown length counts as one turn, and every branch of a
    conditional as taken.
    """
    times: Counter[str] = Counter()

    def run(name, count):
      times[name] += count
      for instruction in self.computations[name].values():
        turns = 1
        if instruction.opcode == 'while':
          turns = self.trip_count(instruction) or 1
        for called in instruction.called:
          run(called, count * turns)

    run(self.entry, 1)
    return times

  @cached_property
  def fused(self) -> set[str]:
    """Names of fused computations, whose inner arrays stay out of memory."""
    names, pending = (
      set(),
      [
        called
        for computation in self.computations.values()
        for instruction in computation.values()
        if instruction.opcode == 'fusion'
        for called in instruction.called
      ],
    )
    while pending:
      names.add(name := pending.pop())
      for instruction in self.computations[name].values():
        pending += instruction.called
    return names

  def trip_count(self, loop: Instruction) -> int | None:
    """Returns the iterations of a `while`, None if the text has none.

    XLA:CPU and XLA:GPU write them down. Elsewhere they are the one constant
    that the condition compares its counter with, from 0 as `lax.scan` counts.
    """
    if known := _TRIP_COUNT.search(loop.attributes):
      return int(known[1])
    reached = re.findall(r'condition=%([\w.-]+)', loop.attributes)
    constants, compares = [], []
    for name in reached:
      for instruction in self.computations[name].values():
        reached += instruction.called
        if instruction.opcode == 'constant':
          constants.append(instruction.argument)
        if instruction.opcode == 'compare':
          compares.append('direction=LT' in instruction.attributes)
    if compares == [True] and len(constants) == 1 and constants[0].isdigit():
      return int(constants[0])
    return None


def parse(text: str) -> Module:
  """Reads `compiled.as_text()`."""
  computations: dict[str, dict[str, Instruction]] = {}
  entry, current = '', None
  for line in text.splitlines():
    if start := _COMPUTATION.match(line):
      current = computations.setdefault(start[2], {})
      entry = start[2] if start[1] else entry
    elif current is not None and (found := _INSTRUCTION.match(line)):
      instruction = _parse_instruction(*found.groups())
      current[instruction.name] = instruction
  return Module(computations, entry)


def _parse_instruction(root, name, rest):
  end = _end_of_parentheses(rest) if rest[0] == '(' else rest.index(' ')
  opcode = _OPCODE.match(rest, end)
  start = opcode.end() - 1
  stop = start + _end_of_parentheses(rest[start:])
  argument = rest[start + 1 : stop - 1]
  return Instruction(
    name=name,
    opcode=opcode[1],
    arrays=tuple(map(_parse_array, _ARRAY.findall(rest[:end]))),
    operands=tuple(_NAME.findall(argument)),
    argument=argument,
    attributes=rest[stop:],
    is_root=root is not None,
  )


def _parse_array(found):
  dtype, sizes, layout = found
  size = 1
  for length in filter(None, sizes.split(',')):
    size *= int(length)
  space = _SPACE.search(layout)
  return Array(dtype, size, int(space[1]) if space else 0)


def _end_of_parentheses(text):
  """Returns the index after the parenthesis that closes the first one."""
  depth = 0
  for place, character in enumerate(text):
    depth += (character == '(') - (character == ')')
    if not depth:
      return place + 1
  raise ValueError(f'no closing parenthesis in {text!r}')
