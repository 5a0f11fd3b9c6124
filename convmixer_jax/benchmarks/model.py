"""Compares the speed of this project with plain Flax and PyTorch.

  python -m convmixer_jax benchmark model \
    --timm_python=timm-env/bin/python

Measures inference and training of this project's networks and of timm's in
PyTorch, eager and with torch.compile; of ConvMixers also of one made of Flax's
layers. Each has its own process and uses all cores; they run one after the
other in each round, and ratios are computed within a round. At the end, on
CPUs, a profile of this project's steps says what takes their time.

The workers define the steps (`jax_model_worker.py`, `torch_model_worker.py`):
this project's is the step of `train.py`, without augmentation. All run in
float32, and with the huge pages that the command requests from glibc.
"""

import dataclasses
import os
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import (
  BenchmarkCase,
  all_cases,
  count_flops,
  count_flops_by_category,
  is_convmixer,
)
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.machine import describe_cpu, describe_machine
from convmixer_jax.benchmarks.model_report import KINDS
from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE
from convmixer_jax.benchmarks.timm_input import HOW_TO_GET_TIMM
from convmixer_jax.errors import UserError

ROUNDS = 5  # nine minutes for all cases on two cores
_TURN_SECONDS = 0.5  # approximate duration of a turn of short steps
_MAX_STEPS = 20
_WARM_UP_STEPS = 5  # in which the heap of a process grows to its size
_PLAIN_FLAX_EVERY = 5  # rounds, because it takes 10 to 25 times as long
_ROOT = pathlib.Path(__file__).parents[2]  # of the package


def run(
  cases: Mapping[str, BenchmarkCase],
  *,
  timm_python: str | None = None,
  rounds: int = ROUNDS,
  plain_flax: bool = True,
) -> Iterator[dict[str, Any]]:
  """Measures all frameworks in turns, one case after the other.

  Args:
    cases: networks and batches, by name.
    timm_python: a Python interpreter that can import timm, or None.
    rounds: number of turns of each; plain Flax has one in every five rounds.
    plain_flax: whether to measure it.

  Yields:
    After each case, all results so far, as a dict for JSON: `machine`;
    `settings`; `matmul`, the GFLOP/s of a large matrix product in float32, the
    best of all frameworks; and for each of the `cases` its `case`, its `flops`
    and the `frameworks`. Each framework has the reason why it is `missing`, or
    `about` (versions), its `matmul` GFLOP/s, and for `forward` and `train`:
    `seconds` of a step (median, by wall time and processor time),
    `images_per_sec`, `gflops` (GFLOP/s), `compile` in seconds, `peak` memory in
    MiB, and `ratio`, its wall time divided by this project's (median, lowest,
    highest). On CPUs, the case also has the `profile` of this project's steps
    (`step_profile.profile`), and their `flops_by_category`.

  Raises:
    UserError: this project's network cannot be run.
  """
  measured, rates = {}, []
  for name, case in cases.items():
    measured[name] = _measure(
      case, _commands(timm_python, case, plain_flax), rounds
    )
    rates += [
      values['matmul']
      for values in measured[name]['frameworks'].values()
      if 'matmul' in values
    ]
    yield {
      'machine': describe_machine() | describe_cpu(),
      'settings': {
        'rounds': rounds,
        'GLIBC_TUNABLES': os.environ.get('GLIBC_TUNABLES', ''),
      },
      'matmul': max(rates),
      'cases': measured,
    }


def _commands(timm_python, case, plain_flax):
  """Returns the command of each framework, None where there is no Python."""
  jax = [sys.executable, '-m', 'convmixer_jax.benchmarks.jax_model_worker']
  torch = timm_python and [
    timm_python,
    '-m',
    'convmixer_jax.benchmarks.torch_model_worker',
  ]
  commands = {
    'this project': [*jax, 'project'],
    'PyTorch, eager': torch and [*torch, 'eager'],
    'PyTorch, compile': torch and [*torch, 'compile'],
  }
  if plain_flax and is_convmixer(case):
    commands['plain Flax'] = [*jax, 'plain_flax']
  return commands


def _measure(case, commands, rounds):
  """Measures all frameworks on one case."""
  missing, processes = {}, {}
  # Another Python finds this package there.
  path = filter(None, [str(_ROOT), os.environ.get('PYTHONPATH', '')])
  environment = {'PYTHONPATH': os.pathsep.join(path)}
  with ExitStack() as stack:
    for name, command in commands.items():
      if command is None:
        missing[name] = f'not measured; {HOW_TO_GET_TIMM}'
        continue
      process = stack.enter_context(
        BenchmarkProcess(command, case, environment=environment)
      )
      if process.missing:
        missing[name] = process.missing
      else:
        processes[name] = process
    if 'this project' in missing:
      raise UserError(missing['this project'])
    turns = _take_turns(processes, rounds)
    profiles = _profile(processes['this project'])
  flops = count_flops(case)
  return {
    'case': dataclasses.asdict(case),
    'flops': flops,
    'flops_by_category': count_flops_by_category(case),
    'profile': profiles,
    'frameworks': {
      name: {'missing': missing[name]}
      if name in missing
      else _summary(name, processes[name], turns, case, flops)
      for name in commands
    },
  }


def _profile(process):
  """Returns the profile of each kind of step, or nothing, if not on a CPU."""
  if process.about.get('device') != 'cpu':
    return {}
  return {
    kind: process.measure(f'profile_{kind}', _steps_of_a_turn(process, kind))[
      'profile'
    ]
    for kind in KINDS
  }


def _steps_of_a_turn(process, kind):
  count = round(_TURN_SECONDS / process.costs[kind]['step'])
  return min(max(count, 2), _MAX_STEPS)


def _take_turns(processes, rounds):
  """Returns seconds per step by kind of step, name and number of the round."""
  turns = {kind: {name: {} for name in processes} for kind in KINDS}
  for kind in KINDS:
    for name, process in processes.items():
      if name != 'plain Flax':
        process.measure(kind, _WARM_UP_STEPS)
  turns['matmul'] = {name: {} for name in processes}
  for number in range(rounds):
    for kind, by_name in turns.items():
      for name, process in processes.items():
        if name == 'plain Flax' and number % _PLAIN_FLAX_EVERY:
          continue
        count = _steps_of_a_turn(process, kind)
        process.measure(kind, 1)  # fills the caches again
        by_name[name][number] = process.measure(kind, count)
  return turns


def _summary(name, process, turns, case, flops):
  result = {
    'about': process.about,
    'matmul': 2e-9 * MATMUL_SIZE**3 / _median(turns['matmul'][name], 'wall'),
  }
  for kind in KINDS:
    own, ours = turns[kind][name], turns[kind]['this project']
    seconds = {clock: _median(own, clock) for clock in ('wall', 'cpu')}
    ratios = [own[turn]['wall'] / ours[turn]['wall'] for turn in own]
    result[kind] = {
      'seconds': seconds,
      'images_per_sec': case.batch_size / seconds['wall'],
      'gflops': flops[kind] / seconds['wall'] / 1e9,
      'compile': process.costs[kind]['compile'],
      'peak': process.costs[kind]['peak'],
      'ratio': [statistics.median(ratios), min(ratios), max(ratios)],
    }
  return result


def _median(turns, clock):
  return statistics.median(turn[clock] for turn in turns.values())


def choose_cases(
  names: Sequence[str], imagenet_depth: int
) -> dict[str, BenchmarkCase]:
  """Returns cases by name.

  Args:
    names: keys of `benchmark_cases.all_cases`.
    imagenet_depth: maximum number of blocks of the networks for ImageNet.

  Raises:
    UserError: a name is unknown.
  """
  cases, chosen = all_cases(), {}
  for name in names:
    if name not in cases:
      raise UserError(
        f'--shapes: {name!r} is unknown; valid are {", ".join(cases)}'
      )
    case = cases[name]
    depth = case.fields.get('depth', 0)
    if case.image_size == 224 and depth > imagenet_depth:
      fields = {**case.fields, 'depth': imagenet_depth}
      case = dataclasses.replace(case, fields=fields)
    chosen[name] = case
  return chosen
