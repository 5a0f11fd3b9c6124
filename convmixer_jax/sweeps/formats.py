"""A comparison of runs as text, Markdown and CSV."""

import csv
import io
from collections.abc import Sequence

from convmixer_jax.sweeps.comparison import Comparison, Row
from convmixer_jax.sweeps.statistics import Interval

HEAD = (
  *('row', 'runs', 'parameters', 'GMACs', 'images/s'),
  *('{metric}', 'difference'),
)
_SAME = 'reference'
_FEW_ROWS = 2


def interval_text(interval: Interval, *, signed: bool = False) -> str:
  """Returns 'mean ± half width' with four decimals."""
  if not interval.num_values:
    return 'no seed in common'
  sign = '+' if signed else ''
  text = f'{interval.mean:{sign}.4f}'
  if interval.half_width is None:
    return f'{text} (1 {"pair" if signed else "run"})'
  return f'{text} ± {interval.half_width:.4f}'


def _range_text(values, to_text):
  """Returns the fewest and the most, as one number if they are equal."""
  if values is None:
    return '?'
  return ' to '.join(dict.fromkeys(map(to_text, values)))


def _giga(number):
  value = number / 1e9
  if value < 1e-3:
    return f'{value:.6f}'
  return f'{value:#.3g}' if value < 100 else f'{value:,.0f}'


def cells(row: Row) -> list[str]:
  """Returns what the table has of a row, in the order of `HEAD`."""
  speed = row.images_per_sec
  return [
    row.name,
    str(row.metric.num_values),
    _range_text(row.parameters, '{:,}'.format),
    _range_text(row.macs, _giga),
    '?' if speed is None else f'{speed:,.0f}',
    interval_text(row.metric),
    _SAME
    if row.difference is None
    else interval_text(row.difference, signed=True),
  ]


def title(comparison: Comparison) -> str:
  """Returns what the table is of."""
  return f'Comparison of {len(comparison.rows)} rows by {comparison.metric}'


def notes(comparison: Comparison) -> list[str]:
  """Returns sentences on what the numbers are, and what is left out."""
  lines = [
    f'{comparison.metric} is that of the last evaluation: the mean over the '
    "runs of a row, with the 95 % interval of Student's t distribution. "
    f'Differences are to {comparison.reference}, paired by '
    f'{", ".join(comparison.paired_by)}.'
  ]
  if keys := ', '.join(comparison.rows[0].settings):
    is_one = len(comparison.rows) == 1
    lines.append(
      f'{"All runs have the same" if is_one else "Rows differ in"} {keys}.'
    )
  if comparison.eval_data:
    lines.append(
      'The runs are not evaluated on the same images, so their values do not '
      f'compare: {", ".join(comparison.eval_data)}.'
    )
  if comparison.confounded:
    lines.append(
      f'The rows also differ in {", ".join(comparison.confounded)}; their '
      'differences may come from that.'
    )
  if any(row.metric.num_values == 1 for row in comparison.rows):
    lines.append('One run has no interval: it says nothing about other seeds.')
  if len(comparison.rows) > _FEW_ROWS:
    lines.append(
      'Each interval is for one difference: of twenty rows that equal the '
      'reference, about one has an interval without 0 by chance.'
    )
  for row in comparison.rows:
    if row.mixed:
      lines.append(
        f'The runs of {row.name} also differ in {", ".join(row.mixed)}.'
      )
  counts = {row.metric.num_values for row in comparison.rows}
  pairs = {
    row.difference.num_values for row in comparison.rows if row.difference
  }
  if pairs and (len(counts) > 1 or min(pairs) < max(counts)):
    lines.append(
      'Rows have different seeds; differences are over those in common.'
    )
  if comparison.left_out:
    lines.append(
      'Left out: '
      + '; '.join(f'{run.name} ({run.problem})' for run in comparison.left_out)
      + '.'
    )
  return lines


def to_text(comparison: Comparison) -> str:
  """Returns the table for a terminal, and the notes."""
  rows = [_head(comparison), *map(cells, comparison.rows)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  return '\n'.join([*lines, '', *notes(comparison)])


def to_markdown(comparison: Comparison) -> str:
  """Returns the table in Markdown, with its title and the notes."""
  rows = [_head(comparison), ['---', *['---:'] * (len(HEAD) - 1)]]
  rows += [
    [cell.replace('|', r'\|').replace('<', '&lt;') for cell in cells(row)]
    for row in comparison.rows
  ]
  lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
  head = ['# ' + title(comparison), '']
  return '\n'.join([*head, *lines, '', '\n\n'.join(notes(comparison)), ''])


def to_csv(comparison: Comparison) -> str:
  """Returns the table with all digits, a column for each key and end."""
  keys = list(comparison.rows[0].settings)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  metric = comparison.metric
  writer.writerow(
    [
      *('row', *keys, 'runs', 'parameters', 'macs', 'images_per_sec'),
      *(metric, f'{metric}_low', f'{metric}_high'),
      *('difference', 'difference_low', 'difference_high', 'pairs'),
    ]
  )
  for row in comparison.rows:
    writer.writerow(
      [
        *(
          row.name,
          *(row.settings[key] for key in keys),
          row.metric.num_values,
        ),
        *(_csv_range(row.parameters), _csv_range(row.macs)),
        '' if row.images_per_sec is None else row.images_per_sec,
        *_csv_interval(row.metric),
        *_csv_interval(row.difference),
        '' if row.difference is None else row.difference.num_values,
      ]
    )
  return text.getvalue()


def _head(comparison: Comparison) -> list[str]:
  return [title.format(metric=comparison.metric) for title in HEAD]


def _csv_range(values):
  if values is None:
    return ''
  return '-'.join(dict.fromkeys(map(str, values)))


def _csv_interval(interval: Interval | None) -> Sequence[float | str]:
  if interval is None or not interval.num_values:
    return '', '', ''
  if interval.half_width is None:
    return interval.mean, '', ''
  return interval.mean, interval.low, interval.high
