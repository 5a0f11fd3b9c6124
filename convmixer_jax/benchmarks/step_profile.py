"""Divides the time of a compiled step among kinds of work, on CPUs.

JAX's profiler says when each operation of the compiled program ran. The program
itself says what the operation is, and how many bytes it reads and writes.
"""

import glob
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

# What is not an operation is `rest`, too: waiting, and between two steps.
CATEGORIES = ('products', 'depthwise', 'norms', 'optimizer', 'rest')

# The functions of our own kernels (`kernels.cpu.library`), without the sizes
# that end their names.
OF_KERNELS = {
  'attention': 'products',
  'attention_forward': 'products',
  'attention_gradient': 'products',
  'multiply': 'products',
  'pack': 'products',
  'product': 'products',
  'linear_gradient': 'products',
  'conv': 'products',
  'conv_gradient': 'products',
  'conv_transposed': 'products',
  'correlate': 'depthwise',
  'kernel_gradient': 'depthwise',
  'fused_mixer': 'depthwise',
  'layer_norm': 'norms',
  'layer_norm_gradient': 'norms',
  'batch_norm_sums': 'norms',
  'batch_norm_affine': 'norms',
  'batch_norm_products': 'norms',
  'batch_norm_gradient': 'norms',
  'moments': 'norms',
  'products': 'norms',
  'affine': 'norms',
  'affine_residual': 'norms',
  'gradient': 'norms',
  'adamw': 'optimizer',
  'max_pool': 'rest',
  'max_pool_gradient': 'rest',
  'stored': 'rest',
  'transpose': 'rest',
}
# The names of the profiler's events: of the end of an operation (a prefix), of
# a thread's begin of a task, and of what follows from the end of an operation.
_END = 'end: '
_TASK = 'ThreadpoolListener::StartRegion'
_FOLLOWERS = 'ThunkExecutor::Execute'
_INSTRUCTION = re.compile(
  r'^\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$'
)
_TARGET = re.compile(r'custom_call_target="convmixer_([a-z_]+?)(?:_\d+)?"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_ARRAY = re.compile(r'\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')
_OPERAND = re.compile(r'%([\w.-]+)')


class Operation(NamedTuple):
  """An operation of a compiled program.

  Attributes:
    category: one of `CATEGORIES`.
    bytes: that it reads and writes, each operand and result once.
  """

  category: str
  bytes: int


def find_operations(program: str) -> dict[str, Operation]:
  """Returns the operations of a compiled program by name.

  Args:
    program: the text of its HLO.
  """
  found, sizes = {}, {}
  for line in program.splitlines():
    match = _INSTRUCTION.match(line)
    if not match:
      continue
    name, shape, opcode, rest = match.groups()
    sizes[name] = _count_bytes(shape)
    operands = _OPERAND.findall(rest.partition(')')[0])
    moved = sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
    found[name] = Operation(_category(opcode, name, rest), moved)
  return found


def _category(opcode, name, rest):
  if target := _TARGET.search(rest):
    return OF_KERNELS.get(target[1], 'rest')
  op_name = _OP_NAME.search(rest)
  path = op_name[1] if op_name else ''
  if opcode in ('dot', 'convolution') or 'dot_general' in (name + path):
    return 'products'
  return 'optimizer' if '/optimizer/' in path else 'rest'


def _count_bytes(shape):
  return sum(
    math.ceil(int(bits or 8) / 8)
    * math.prod(int(length) for length in lengths.split(',') if length)
    for bits, lengths in _ARRAY.findall(shape)
  )


def divide_time(
  intervals: Iterable[tuple[float, float, str]],
) -> dict[str, float]:
  """Divides time among the categories that work at the same time.

  Args:
    intervals: begin, end and category of each operation.

  Returns:
    The time of each category. Where several categories work at once, each has
    an equal part, so that the sum is the time in which any works.
  """
  changes = sorted(
    change
    for begin, end, category in intervals
    for change in ((begin, 1, category), (end, -1, category))
  )
  active = dict.fromkeys(CATEGORIES, 0)
  times = dict.fromkeys(CATEGORIES, 0.0)
  before = 0.0
  for time, step, category in changes:
    working = [name for name, count in active.items() if count]
    for name in working:
      times[name] += (time - before) / len(working)
    active[category] += step
    before = time
  return times


def profile(
  run: Callable[[], Any], program: str, count: int, seconds: float
) -> dict[str, Any]:
  """Runs steps under the profiler.

  Args:
    run: runs `count` steps, and waits for their results.
    program: the text of the HLO of a step.
    count: number of steps.
    seconds: that a step takes without the profiler.

  Returns:
    For each of `CATEGORIES` the `seconds` of a step, which sum to those of a
    step without the profiler, and the `bytes` that its operations move.
  """
  operations = find_operations(program)
  with tempfile.TemporaryDirectory() as directory:
    with jax.profiler.trace(directory):
      run()
    events = _read_events(directory)
  known = [event for event in events if event[2] in operations]
  times = divide_time(
    (begin, end, operations[name].category) for begin, end, name in known
  )
  moved = dict.fromkeys(CATEGORIES, 0.0)
  for _, _, name in known:
    moved[operations[name].category] += operations[name].bytes / count
  per_step = {name: 1e-9 * time / count for name, time in times.items()}
  per_step['rest'] += max(seconds - sum(per_step.values()), 0.0)
  scale = seconds / sum(per_step.values())
  return {
    name: {'seconds': per_step[name] * scale, 'bytes': moved[name]}
    for name in CATEGORIES
  }


def _read_events(directory: str) -> list[tuple[float, float, str]]:
  """Returns begin and end in nanoseconds, and name, of each operation."""
  found: dict[str, list[tuple[float, float]]] = {}
  ends: dict[str, list[_End]] = {}
  for path in glob.glob(f'{directory}/**/*.xplane.pb', recursive=True):
    for plane in jax.profiler.ProfileData.from_file(path).planes:
      for line in plane.lines:
        _read_thread(line.events, found, ends)
  return list(_events_to_their_ends(found, ends))


class _End(NamedTuple):
  """When a thread has left an operation.

  Attributes:
    time: in nanoseconds.
    followers: when this thread began with operations, in the same task.
  """

  time: float
  followers: tuple[float, ...]


def _read_thread(events, found, ends):
  """Adds the operations that a thread began, and those that it ended."""
  followers = []
  for event in sorted(events, key=lambda event: event.start_ns):
    name, start = dict(event.stats).get('hlo_op'), event.start_ns
    if name is not None:
      times = start, start + event.duration_ns
      found.setdefault(str(name), []).append(times)
      followers.append(start)
    elif event.name == _TASK:
      followers = []
    elif event.name == _FOLLOWERS:
      followers.append(start)
    elif event.name.startswith(_END):
      end = _End(start, tuple(followers))
      ends.setdefault(event.name.removeprefix(_END), []).append(end)


def _events_to_their_ends(found, ends):
  """Yields all events with the time at which the last thread was done.

  An operation may only start in its own event. The thread that ends it goes on
  with what follows before it says so.
  """
  for name, times in found.items():
    later = ends.get(name, [])
    if len(later) != len(times):
      later = [_End(end, ()) for _, end in times]
    for (start, end), last in zip(sorted(times), sorted(later), strict=True):
      followed = (time for time in last.followers if time > start)
      yield start, max(end, min(followed, default=last.time)), name


def table(
  kind: str,
  found: Mapping[str, Mapping[str, float]],
  flops: Mapping[str, float],
) -> Sequence[str]:
  """Formats the result of `profile` as lines of text.

  Args:
    kind: of the step.
    found: the result.
    flops: FLOPs of a step, by category.
  """
  total = sum(values['seconds'] for values in found.values())
  lines = [f'{kind + ", this project":27s}ms of step GFLOP/s    GB/s']
  for name, values in found.items():
    seconds = values['seconds']
    line = f'  {name:16s}{1e3 * seconds:11.1f}{seconds / total:8.0%}'
    if seconds and name in flops:
      line += f'{flops[name] / seconds / 1e9:8.0f}'
    elif seconds:
      line += f'{"":8s}{values["bytes"] / seconds / 1e9:8.1f}'
    lines.append(line)
  return lines
