"""Derives bound and hours from a compiled step, and formats the plan.

The bound is a roofline's: no step takes less time than its operations at the
peak rate, or its bytes at the peak bandwidth. It is not a prediction. Depthwise
convolutions in particular cannot use a TPU's matrix unit, whose rate is the
peak; how fast its vector unit is, is not published.
"""

import dataclasses
from typing import Any

import ml_collections

from convmixer_jax.analysis import flops
from convmixer_jax.config import num_channels, num_train_steps
from convmixer_jax.models import create_model
from convmixer_jax.planning.chips import Chip
from convmixer_jax.planning.compilation import CompiledStep

_GIB, _LABEL_WIDTH, _COLUMN_WIDTH = 2**30, 38, 16


def summarize(
  config: ml_collections.ConfigDict,
  step: CompiledStep,
  chip: Chip,
  num_chips: int,
  num_examples: int,
  num_classes: int,
) -> dict[str, Any]:
  """Returns the figures of a step and of the run it makes, JSON-serialisable.

  Sizes and operations are those of a step on one chip; seconds too, at the
  bound. `hours` are of all steps of the config, at the bound.
  """
  per_chip = step.batch_size // num_chips
  matrix, depthwise = count_by_unit(config, per_chip, num_classes)
  arithmetic = (matrix + depthwise) / chip.flops
  traffic = step.memory_traffic / chip.bandwidth
  bound = max(arithmetic, traffic)
  num_steps = num_train_steps(config, num_examples // step.batch_size)
  hours = num_steps * bound / 3600
  return {
    'batch_size': step.batch_size,
    'images_per_chip': per_chip,
    'memory': step.memory | {'in all': sum(step.memory.values())},
    'matrix_flops': matrix,
    'depthwise_flops': depthwise,
    'xla_flops': step.xla_flops,
    'memory_traffic': step.memory_traffic,
    'arithmetic_seconds': arithmetic,
    'traffic_seconds': traffic,
    'bound_seconds': bound,
    'images_per_sec': step.batch_size / bound,
    'collectives': [dataclasses.asdict(c) for c in step.collectives],
    'compile_seconds': step.compile_seconds,
    'num_steps': num_steps,
    'hours': hours,
    'chip_hours': hours * num_chips,
  }


def count_by_unit(
  config: ml_collections.ConfigDict, batch_size: int, num_classes: int
) -> tuple[int, int]:
  """Counts operations of matrix products and of depthwise convolutions.

  In the traced step (`flops.count_training`): XLA counts a loop's body once.
  What `remat` computes twice is counted once. A multiplication with its
  addition is two operations.
  """
  dataset = config.dataset
  model = create_model(
    config.model, num_classes, config.dtype, dataset.image_size
  )
  macs = flops.count_training(
    model, dataset.image_size, batch_size, num_channels(dataset)
  )
  return 2 * macs.matrix, 2 * macs.depthwise


def table(plan: dict[str, Any]) -> str:
  """Formats a plan (see `build.make_plan`) as lines to print."""
  columns = plan['steps']
  memory = plan['chip']['memory'] / _GIB
  versions = ', '.join(f'{k} {v}' for k, v in plan['versions'].items())
  lines = [
    f'{plan["config"]} on {plan["topology"]}: {plan["num_chips"]} x '
    f'{plan["chip"]["name"]}, mesh data = {plan["mesh"]["data"]} x fsdp = '
    f'{plan["mesh"]["fsdp"]}',
    f'{plan["num_examples"]:,} images of {plan["num_classes"]:,} classes; '
    f'{versions}, model.scan = {plan["scan"]}, '
    f'model.remat = {plan["remat"]}',
    *plan['notes'],
    '',
  ]
  if not columns:
    return '\n'.join([*lines, plan['largest']])

  def row(label, key, form):
    values = [
      form(column) if key is None else form(column[key]) for column in columns
    ]
    lines.append(
      f'{label:{_LABEL_WIDTH}s}'
      + ''.join(f'{value:>{_COLUMN_WIDTH}s}' for value in values)
    )

  row('batch, images', 'batch_size', '{:,}'.format)
  row('images a chip', 'images_per_chip', '{:,}'.format)
  lines.append(f'memory a chip, GiB of {memory:.2f}')
  for name in columns[0]['memory']:
    row(f'  {name}', 'memory', lambda m, name=name: _number(m[name] / _GIB))
  lines.append('a step, on each chip')
  row('  matrix products, TFLOP', 'matrix_flops', _tera)
  has_depthwise = any(column['depthwise_flops'] for column in columns)
  if has_depthwise:
    row('  depthwise convolutions, TFLOP', 'depthwise_flops', _tera)
  row('  (XLA counts, loops once)', 'xla_flops', _tera)
  row('  main memory, GB', 'memory_traffic', lambda n: _number(n / 1e9))
  row('  operations at the peak, ms', 'arithmetic_seconds', _milliseconds)
  row('  bytes at the peak, ms', 'traffic_seconds', _milliseconds)
  row('  bound: the longer, ms', 'bound_seconds', _milliseconds)
  row('collectives a step', None, lambda c: '' if c['collectives'] else 'none')
  for kind, dtype in _kinds(columns):
    row(
      f'  {kind} {dtype}',
      'collectives',
      lambda found, kind=kind, dtype=dtype: _collective(found, kind, dtype),
    )
  row('compiling, s', 'compile_seconds', '{:.0f}'.format)
  lines.append('the whole run, if every step took no more than the bound')
  row('  images a second, all chips', 'images_per_sec', '{:,.0f}'.format)
  row('  steps', 'num_steps', '{:,}'.format)
  row('  hours', 'hours', _number)
  row('  chip-hours', 'chip_hours', _number)
  caveat = [_CAVEAT, _DEPTHWISE] if has_depthwise else [_CAVEAT]
  return '\n'.join([*lines, '', plan['largest'], *caveat])


_CAVEAT = (
  'The bound is not a measurement: expect a run to take longer. It leaves out '
  'communication,\nevaluation and input. Operations are counted in the traced '
  'step, bytes in the compiled\nprogram: what it moves, not what is needed.'
)
_DEPTHWISE = 'Depthwise convolutions do not run at the peak.'


def _kinds(columns):
  """Lists kind and dtype of the collectives of all columns, in order."""
  return list(
    dict.fromkeys(
      (found['kind'], found['dtype'])
      for column in columns
      for found in column['collectives']
    )
  )


def _collective(found, kind, dtype):
  for each in found:
    if (each['kind'], each['dtype']) == (kind, dtype):
      return f'{_number(each["num_bytes"] / 1e6)} MB in {each["count"]}'
  return 'none'


def _number(value):
  return f'{value:.4g}'


def _tera(number):
  return 'unknown' if number is None else _number(number / 1e12)


def _milliseconds(seconds):
  return _number(seconds * 1e3)


def largest_sentence(
  fits: int, too_large: int | None, unit: int, has_remat: bool
) -> str:
  """Describes the result of the search, in images a chip.

  Args:
    fits: the largest batch that fits, 0 for none.
    too_large: the smallest that does not, None for none.
    unit: the smallest batch there can be.
    has_remat: whether the network has the field `remat`.
  """
  if not fits:
    remat = '--config.model.remat=True, ' if has_remat else ''
    return (
      f'No batch fits: {unit} images a chip, the least for accumulation and '
      f'whole groups, need more. Try {remat}--config.mesh.fsdp, or smaller '
      'groups.'
    )
  beyond = (
    f'{too_large:,} do not fit' if too_large else 'the data set has no more'
  )
  return f'Largest batch that fits: {fits:,} images a chip; {beyond}.'
