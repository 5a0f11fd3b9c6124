"""Divides the time of a step among the kernels that a GPU ran for it.

JAX's profiler says when each kernel of a stream ran. It needs no tool besides
JAX, and the driver's counters of other profilers are not read.
"""

import collections
import csv
import glob
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax


class KernelTime(NamedTuple):
  """A kernel of a step.

  Attributes:
    kernel: its name in the program.
    launches: how often a step launches it, on average.
    microseconds: of all its launches in a step.
  """

  kernel: str
  launches: float
  microseconds: float


def profile(run: Callable[[int], Any], count: int) -> list[KernelTime]:
  """Runs steps under the profiler.

  The profiler may slow down what the process runs afterwards.

  Args:
    run: runs so many steps, compiled before, and waits for their results.
    count: number of steps.

  Returns:
    The kernels of a step, longest first; none if the process has no GPU.
  """
  with tempfile.TemporaryDirectory() as directory:
    with jax.profiler.trace(directory):
      run(count)
    return add_up(_read_events(directory), count)


def add_up(events: Iterable[tuple[str, float]], count: int) -> list[KernelTime]:
  """Adds the durations of each kernel, longest first.

  Args:
    events: name and nanoseconds of each launch.
    count: number of steps that they are of.
  """
  nanoseconds: dict[str, float] = collections.defaultdict(float)
  launches: collections.Counter[str] = collections.Counter()
  for name, duration in events:
    nanoseconds[name] += duration
    launches[name] += 1
  return [
    KernelTime(name, launches[name] / count, total / count / 1e3)
    for name, total in sorted(
      nanoseconds.items(), key=lambda item: item[1], reverse=True
    )
  ]


def _read_events(directory: str) -> Iterator[tuple[str, float]]:
  for path in glob.glob(f'{directory}/**/*.xplane.pb', recursive=True):
    yield from events_of(jax.profiler.ProfileData.from_file(path))


def events_of(
  data: jax.profiler.ProfileData,
) -> Iterator[tuple[str, float]]:
  """Yields name and nanoseconds of each launch in the streams of all GPUs."""
  for plane in data.planes:
    if not plane.name.startswith('/device:GPU'):
      continue
    for line in plane.lines:
      if 'Stream' in line.name:  # others repeat them, by operation and module
        for event in line.events:
          yield event.name, event.duration_ns


def to_csv(kernels: Sequence[KernelTime]) -> str:
  """Returns a line for each kernel, with a header."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow([*KernelTime._fields, 'microseconds_each'])
  for name, launches, total in kernels:
    each = total / launches
    writer.writerow([name, f'{launches:g}', f'{total:.1f}', f'{each:.1f}'])
  return text.getvalue()
