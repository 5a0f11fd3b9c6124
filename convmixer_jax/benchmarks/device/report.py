"""Formats the rows of a run as Markdown tables."""

import math
from collections.abc import Sequence
from typing import Any

from convmixer_jax.benchmarks.device.report_comparison import (
  format_comparison,
)
from convmixer_jax.benchmarks.device.report_profiles import format_profiles
from convmixer_jax.benchmarks.device.rows import Row
from convmixer_jax.benchmarks.device.settings import STAGES
from convmixer_jax.benchmarks.device.tables import table

_KINDS = {'train': 'Training step', 'forward': 'Inference'}
_MODEL_STAGES = {'models': 'ConvMixer', 'networks': 'Other networks'}


def format_results(rows: Sequence[Row]) -> str:
  """Returns all tables; parts without rows are omitted."""
  parts = [
    '# Benchmark of a device',
    _machine(_of(rows, 'machine')),
    _correctness(_of(rows, 'correctness')),
    _depthwise(_of(rows, 'depthwise'), _copy_rate(_of(rows, 'machine'))),
    *(
      _models(_of(rows, stage), kind, title)
      for stage, title in _MODEL_STAGES.items()
      for kind in _KINDS
    ),
    format_profiles(rows),
    _cifar10(_of(rows, 'cifar10')),
    format_comparison(_of(rows, 'comparison')),
    _tests(_of(rows, 'tests')),
    _reasons(rows, 'failed', 'Failed'),
    _reasons(rows, 'missing', 'Not measured'),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _of(rows, stage):
  return [row for row in rows if row['stage'] == stage]


def _copy_rate(rows):
  rates = [row['gb_per_sec'] for row in rows if 'gb_per_sec' in row]
  return rates[-1] if rates else None


def _machine(rows):
  values: dict[str, Any] = {}
  for row in rows:
    values |= row
  if not values:
    return ''
  lines = [
    (name, values[key])
    for name, key in (
      ('device', 'device'),
      ('platform of JAX', 'platform'),
      ('devices', 'devices'),
      ('driver', 'gpu_driver'),
      ('memory of the GPU, MiB', 'gpu_memory_mib'),
      ('power limit, W', 'gpu_power_limit_watts'),
      ('processor', 'processor'),
      ('cores', 'cores'),
    )
    if key in values
  ]
  versions = values.get('versions', {}) | values.get('torch', {})
  for name, version in versions.items():
    lines.append((name, version))
  if 'gb_per_sec' in values:
    lines.append(
      ('copy, GB/s read and written', f'{values["gb_per_sec"]:,.1f}')
    )
  if 'tflops' in values:
    lines.append(('product in bfloat16, TFLOP/s', f'{values["tflops"]:,.2f}'))
  return table(('', ''), lines)


def _correctness(rows):
  checked = [row for row in rows if 'passed' in row]
  failed = [row for row in rows if 'failed' in row]
  if not checked and not failed:
    return ''
  wrong = [row for row in checked if not row['passed']]
  summary = (
    f'{len(checked) - len(wrong)} correct, {len(wrong)} wrong, '
    f'{len(failed)} failed.'
  )
  worst: dict[tuple[str, ...], Row] = {}
  for row in checked:
    if 'relative_error' not in row:
      continue
    keys = ('check', 'implementation', 'dtype', 'output')
    key = tuple(row[name] for name in keys)
    if key not in worst or _error(row) > _error(worst[key]):
      worst[key] = row
  groups: dict[tuple[str, ...], list[Row]] = {}
  for key, row in worst.items():
    groups.setdefault(key[:3], []).append(row)
  lines = [
    (
      *key,
      ', '.join(f'{row["output"]} {_error(row):.1e}' for row in group),
      f'{group[0]["limit"]:.0e}',
      'yes' if all(row['passed'] for row in group) else '**no**',
    )
    for key, group in groups.items()
  ]
  header = (
    'operation',
    'implementation',
    'dtype',
    'largest relative error',
    'limit',
    'passed',
  )
  notes = [f'{row["check"]}: {row["note"]}' for row in checked if 'note' in row]
  return '\n\n'.join(
    ['## Correctness', summary, table(header, lines), '\n'.join(notes)]
  ).strip()


def _error(row):
  """Returns the relative error; None in a row means that it is not finite."""
  error = row['relative_error']
  return math.inf if error is None else error


def _depthwise(rows, gb_per_sec):
  timed = [row for row in rows if 'microseconds' in row]
  if not timed:
    return ''
  shapes = list(dict.fromkeys(row['depthwise'] for row in timed))
  products = list(dict.fromkeys(row['product'] for row in timed))
  parts = ['## Depthwise convolutions, bfloat16']
  if gb_per_sec:
    parts.append(
      'Microseconds; in brackets GB/s, and the share of the peak rate of a '
      f'copy, {gb_per_sec:,.1f} GB/s; each array is counted once.'
    )
  for shape in shapes:
    own = [row for row in timed if row['depthwise'] == shape]
    cells = {
      (row['variant'], row['product']): _time_cell(row, gb_per_sec)
      for row in own
    }
    variants = list(dict.fromkeys(row['variant'] for row in own))
    lines = [
      (variant, *(cells.get((variant, product), '') for product in products))
      for variant in variants
    ]
    parts.append(f'{shape}:')
    parts.append(table(('', *products), lines))
  return '\n\n'.join(parts)


def _time_cell(row, gb_per_sec):
  text = f'{row["microseconds"]:,.1f}'
  if 'gb_per_sec' in row:
    text += f' ({row["gb_per_sec"]:,.0f}'
    if gb_per_sec:
      text += f', {row["gb_per_sec"] / gb_per_sec:.0%}'
    text += ')'
  return text + ('' if row.get('finite', True) else ' **not finite**')


def _models(rows, kind, title):
  timed = [row for row in rows if row.get('kind') == kind and 'seconds' in row]
  if not timed:
    return ''
  ours = {}  # with scan only where the network was not measured without
  for framework in ('this project, scan', 'this project'):
    ours |= {
      row['network']: row['seconds']
      for row in timed
      if row['framework'] == framework
    }
  networks = list(dict.fromkeys(row['network'] for row in timed))
  lines = []
  for row in sorted(timed, key=lambda row: networks.index(row['network'])):
    own = ours.get(row['network'])
    lines.append(
      (
        row['network'],
        row['framework'],
        f'{row["images_per_sec"]:,.1f}',
        f'{1e3 * row["seconds"]:,.2f}',
        f'{row["seconds"] / own:.2f}' if own else '',
        _percent(row.get('share_of_roofline')),
        f'{row["device_peak_mib"]:,.0f}' if 'device_peak_mib' in row else '',
        f'{row["compile_seconds"]:.1f}',
        row['steps'],
        {True: 'yes', False: '**no**'}.get(row.get('finite'), ''),
      )
    )
  header = (
    'network',
    'framework',
    'images/s',
    'ms',
    'time/ours',
    'of roofline',
    'peak MiB',
    'compile s',
    'steps',
    'finite loss',
  )
  return f'## {title}: {_KINDS[kind]}, bfloat16\n\n{table(header, lines)}'


def _percent(share):
  return '' if share is None or not math.isfinite(share) else f'{share:.1%}'


def _cifar10(rows):
  lines = []
  for row in rows:
    part = row.get('part')
    if part == 'data':
      lines.append(('data', f'{row["about"]} {row.get("contents", "")}'))
    if part == 'input alone' and 'images_per_sec' in row:
      title = f'input alone, made by the {row.get("made_by", "host")}, images/s'
      lines.append((title, f'{row["images_per_sec"]:,.0f}'))
    if part == 'training' and 'epochs' in row:
      lines += _training_lines(row)
  return f'## CIFAR-10\n\n{table(("", ""), lines)}' if lines else ''


def _training_lines(row):
  lines = [
    ('epochs', row['epochs']),
    ('changes of configs/cifar10.py', row['changes'] or 'none'),
    ('total seconds', f'{row["total_seconds"]:.1f}'),
  ]
  for name, seconds in row.get('seconds', {}).items():
    lines.append((f'seconds of {name}', f'{seconds:.1f}'))
  if 'images_per_sec' in row:
    lines.append(('training, images/s', f'{row["images_per_sec"]:,.0f}'))
  if 'finite' in row:
    lines.append(('finite losses', 'yes' if row['finite'] else '**no**'))
  if 'eval_accuracy' in row:
    lines.append(
      (
        f'held-out accuracy at step {row["evaluated_at_step"]}',
        f'{row["eval_accuracy"]:.4f}',
      )
    )
  if 'note' in row:
    lines.append(('note', row['note']))
  return lines


def _tests(rows):
  notes = [row['note'] for row in rows if 'note' in row]
  return '\n\n'.join(['## Tests marked `gpu`', *notes]) if notes else ''


def _reasons(rows, key, title):
  """Lists what failed or was not measured, and why."""
  names = (
    'network',
    'framework',
    'kind',
    'check',
    'shape',
    'dtype',
    'implementation',
    'depthwise',
    'variant',
    'product',
    'part',
  )
  lines = [
    (
      row['stage'],
      ', '.join(str(row[name]) for name in names if name in row),
      row[key],
    )
    for stage in [*STAGES, 'run']
    for row in _of(rows, stage)
    if key in row
  ]
  if not lines:
    return ''
  return f'## {title}\n\n{table(("stage", "case", "reason"), lines)}'
