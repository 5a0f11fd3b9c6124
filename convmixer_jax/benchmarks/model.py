"""Measures the network beside plain Flax and PyTorch, forward and training.

  python -m convmixer_jax benchmark model \
    --timm_python=timm-env/bin/python

This project, a ConvMixer of Flax's own layers, and timm's ConvMixer in PyTorch,
eager and under torch.compile: each in a process of its own, all on all cores,
one after the other in every round; ratios are taken within a round. What a
step is, the workers say (`jax_model_worker.py`, `torch_model_worker.py`): this
project's is the very step of `train.py`, without augmentation. All run in
float32, and all with the huge pages that the command line asks glibc for.
"""

import dataclasses
import os
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from convmixer_jax.benchmarks.contender import Contender
from convmixer_jax.benchmarks.machine import describe_machine
from convmixer_jax.benchmarks.model_shapes import (
  SHAPES,
  Shape,
  count_operations,
)
from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE
from convmixer_jax.benchmarks.timm_input import HOW_TO_GET_TIMM
from convmixer_jax.errors import UserError

_KINDS = ('forward', 'train')
ROUNDS = 5  # nine minutes for all shapes on two cores
_TURN_SECONDS = 0.5  # the least for a turn of many small steps
_MOST_STEPS = 20
_PLAIN_FLAX_EVERY = 5  # rounds, for its steps take 10 to 25 times as long
_ROOT = pathlib.Path(__file__).parents[2]  # of the package


def run(
  shapes: Mapping[str, Shape],
  *,
  timm_python: str | None = None,
  rounds: int = ROUNDS,
) -> Iterator[dict[str, Any]]:
  """Measures all contenders by turns, one shape after the other.

  Args:
    shapes: networks and batches, by name.
    timm_python: an interpreter that can import timm, or None.
    rounds: how often each takes its turn; plain Flax in every fifth.

  Yields:
    After each shape, all there is so far. It can be written as JSON:
    `machine`, `settings`; `matmul`, the GFLOP/s of a large product
    in float32, the best of all contenders; and for each of
    the `shapes` its `shape`, its `operations` and the `contenders`. Of those,
    each has what is `missing` or `about` itself, its own `matmul` rate, and of
    `forward` and `train`: `seconds` of a step (median, by wall and processor
    time), `images_per_sec`, `gflops` a second, `compile` in seconds, `peak`
    memory in MiB, and `ratio`, its wall time over this project's (median,
    lowest, highest).

  Raises:
    UserError: this project's network cannot be run.
  """
  measured, rates = {}, []
  for name, shape in shapes.items():
    measured[name] = _measure(shape, _commands(timm_python), rounds)
    rates += [
      contender['matmul']
      for contender in measured[name]['contenders'].values()
      if 'matmul' in contender
    ]
    yield {
      'machine': describe_machine(),
      'settings': {
        'rounds': rounds,
        'GLIBC_TUNABLES': os.environ.get('GLIBC_TUNABLES', ''),
      },
      'matmul': max(rates),
      'shapes': measured,
    }


def _commands(timm_python):
  """Returns what to run for each; None for what there is no Python for."""
  jax = [sys.executable, '-m', 'convmixer_jax.benchmarks.jax_model_worker']
  torch = timm_python and [
    timm_python,
    '-m',
    'convmixer_jax.benchmarks.torch_model_worker',
  ]
  return {
    'this project': [*jax, 'project'],
    'PyTorch, eager': torch and [*torch, 'eager'],
    'PyTorch, compile': torch and [*torch, 'compile'],
    'plain Flax': [*jax, 'plain_flax'],
  }


def _measure(shape, commands, rounds):
  """Measures all contenders on one shape."""
  missing, contenders = {}, {}
  # Another Python finds this package there.
  path = filter(None, [str(_ROOT), os.environ.get('PYTHONPATH', '')])
  environment = {'PYTHONPATH': os.pathsep.join(path)}
  with ExitStack() as stack:
    for name, command in commands.items():
      if command is None:
        missing[name] = f'not measured; {HOW_TO_GET_TIMM}'
        continue
      contender = stack.enter_context(
        Contender(command, shape, environment=environment)
      )
      if contender.missing:
        missing[name] = contender.missing
      else:
        contenders[name] = contender
    if 'this project' in missing:
      raise UserError(missing['this project'])
    turns = _take_turns(contenders, rounds)
  operations = count_operations(shape)
  return {
    'shape': dataclasses.asdict(shape),
    'operations': operations,
    'contenders': {
      name: {'missing': missing[name]}
      if name in missing
      else _summary(name, contenders[name], turns, shape, operations)
      for name in commands
    },
  }


def _take_turns(contenders, rounds):
  """Returns seconds a step by kind of step, name and number of the round."""
  turns = {kind: {name: {} for name in contenders} for kind in _KINDS}
  turns['matmul'] = {name: {} for name in contenders}
  for number in range(rounds):
    for kind, by_name in turns.items():
      for name, contender in contenders.items():
        if name == 'plain Flax' and number % _PLAIN_FLAX_EVERY:
          continue
        count = round(_TURN_SECONDS / contender.costs[kind]['step'])
        count = min(max(count, 2), _MOST_STEPS)
        contender.measure(kind, 1)  # caches and pages went to the others
        by_name[name][number] = contender.measure(kind, count)
  return turns


def _summary(name, contender, turns, shape, operations):
  result = {
    'about': contender.about,
    'matmul': 2e-9 * MATMUL_SIZE**3 / _median(turns['matmul'][name], 'wall'),
  }
  for kind in _KINDS:
    own, ours = turns[kind][name], turns[kind]['this project']
    seconds = {clock: _median(own, clock) for clock in ('wall', 'cpu')}
    ratios = [own[turn]['wall'] / ours[turn]['wall'] for turn in own]
    result[kind] = {
      'seconds': seconds,
      'images_per_sec': shape.batch_size / seconds['wall'],
      'gflops': operations[kind] / seconds['wall'] / 1e9,
      'compile': contender.costs[kind]['compile'],
      'peak': contender.costs[kind]['peak'],
      'ratio': [statistics.median(ratios), min(ratios), max(ratios)],
    }
  return result


def _median(turns, clock):
  return statistics.median(turn[clock] for turn in turns.values())


def table(result: dict[str, Any]) -> str:
  """Formats what `run` returns as lines to print."""
  machine = result['machine']
  lines = [
    f'{machine["processor"]}, {machine["cores"]} cores, float32, matrix '
    f'products at {result["matmul"]:.0f} GFLOP/s',
    'time/ours: median of the rounds (lowest to highest); above 1, this '
    'project is faster',
  ]
  for name, measured in result['shapes'].items():
    lines += ['', _title(name, Shape(**measured['shape']))]
    contenders = measured['contenders']
    for kind in _KINDS:
      lines.append(
        f'{kind:17s} images/s GFLOP/s of matmul  peak MiB compile s  time/ours'
      )
      lines += [
        _row(contender, values, kind, result['matmul'])
        for contender, values in contenders.items()
      ]
    lines += _verdict(contenders)
  return '\n'.join(lines)


def _title(name, shape):
  whole = SHAPES[name].depth if name in SHAPES else shape.depth
  depth = '' if whole == shape.depth else f' with {shape.depth} of its blocks'
  return (
    f'{name}{depth}, patch {shape.patch_size}, kernel {shape.kernel_size}, '
    f'{shape.activation}, {shape.batch_size} images of '
    f'{shape.image_size} x {shape.image_size}'
  )


def _row(name, values, kind, matmul):
  if 'missing' in values:
    return f'  {name:16s}{values["missing"]}'
  own = values[kind]
  median, low, high = own['ratio']
  ratio = f'{median:5.2f} ({low:.2f} to {high:.2f})'
  return (
    f'  {name:16s}{own["images_per_sec"]:8.1f}{own["gflops"]:8.0f}'
    f'{own["gflops"] / matmul:10.0%}{own["peak"]:10.0f}{own["compile"]:10.1f}'
    f'  {ratio if name != "this project" else ""}'
  ).rstrip()


def _verdict(contenders):
  """Compares with the better of PyTorch's two, where they were measured."""
  rivals = [
    values
    for name, values in contenders.items()
    if name.startswith('PyTorch') and 'missing' not in values
  ]
  if not rivals:
    return []
  best = {
    kind: min(values[kind]['ratio'][0] for values in rivals) for kind in _KINDS
  }
  return [
    "the better of PyTorch's two, time/ours: "
    + ', '.join(f'{kind} {ratio:.2f}' for kind, ratio in best.items())
  ]


def choose_shapes(
  names: Sequence[str], imagenet_depth: int
) -> dict[str, Shape]:
  """Returns shapes by name, those of ImageNet with at most so many blocks.

  Raises:
    UserError: a name is unknown.
  """
  chosen = {}
  for name in names:
    if name not in SHAPES:
      raise UserError(
        f'--shapes: {name!r} is unknown; there are {", ".join(SHAPES)}'
      )
    shape = SHAPES[name]
    if shape.image_size == 224:
      depth = min(shape.depth, imagenet_depth)
      shape = dataclasses.replace(shape, depth=depth)
    chosen[name] = shape
  return chosen
