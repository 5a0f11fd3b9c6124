"""Formats the rows of a comparison: as CSV, and as tables in Markdown."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from convmixer_jax.benchmarks.comparison.paper import PAPER, QUOTED
from convmixer_jax.benchmarks.comparison.rows import Row, Rows

# Columns of the CSV file, in their order.
COLUMNS = (
  'network',
  'timm_name',
  'image_size',
  'parameters',
  'macs',
  'macs_without_depthwise',
  'activations',
  'forward_images_per_sec',
  'train_images_per_sec',
  'forward_memory_mib',
  'train_memory_mib',
  'published_top1',
  'published_weights',
  'published_size',
  'measured_top1',
  'measured_weights',
  'paper_top1',
  'paper_images_per_sec',
)
_COUNTS = (
  'M activations: elements of the results of convolutions, dense layers and '
  'the two products of attention, as timm counts them. GMACs are billions of '
  'multiplications with their additions in the same operations, for one image. '
  'Published figures of ConvMixer (48.68, 19.55 and 5.55) leave out the '
  'depthwise convolutions, and count BatchNorm besides (0.03 to 0.13).'
)


def to_csv(rows: Rows) -> str:
  """Returns a line for each network; what is unknown is empty."""
  text = io.StringIO()
  writer = csv.DictWriter(
    text, COLUMNS, extrasaction='ignore', lineterminator='\n'
  )
  writer.writeheader()
  for name, row in rows.by_name.items():
    paper = PAPER.get(name)
    values = {'network': name, **row}
    if paper:
      values['paper_top1'] = paper.top1
      values['paper_images_per_sec'] = paper.images_per_sec
    writer.writerow(values)
  return text.getvalue()


def to_markdown(rows: Rows) -> str:
  """Returns the paper's comparison, then all networks, and what failed."""
  by_name = rows.by_name
  first = {name: row for name, row in by_name.items() if name in PAPER}
  parts = ['# Networks compared', describe_settings(rows.settings)]
  if first:
    parts += [
      "## The ConvMixer paper's comparison",
      _table(_paper_columns(), first),
      QUOTED,
    ]
  parts += [
    '## Counts, for one image',
    _table(_count_columns(), by_name),
    _COUNTS,
  ]
  measured = {name: row for name, row in by_name.items() if _is_measured(row)}
  if measured:
    parts += [
      '## Speed and memory on this machine',
      _table(_speed_columns(), measured),
      'Memory: what the compiled program needs, weights included, by its '
      'compiler.',
    ]
  parts += [*_accuracy_tables(by_name)]
  failed = [
    f'- {name}, {kind}: {reason}'
    for name, row in by_name.items()
    for kind, reason in row.get('failed', {}).items()
  ]
  if failed:
    parts += ['## Not measured', '\n'.join(failed)]
  return '\n\n'.join(filter(None, parts)) + '\n'


def describe_settings(settings: Mapping[str, Any]) -> str:
  """Returns a line on the machine and the batches; '' without speeds."""
  if 'device' not in settings:
    return ''
  return (
    f'{settings["device"]}, {settings["processor"]}, {settings["cores"]} '
    f'cores, JAX {settings["jax"]}: {settings["batch_size"]} images in '
    f'{settings["dtype"]}. The training step is forward and backward pass and '
    'AdamW.'
  )


def _is_measured(row):
  return any(key.endswith('images_per_sec') for key in row)


Column = tuple[str, Callable[[str, Row], str]]


def _paper_columns() -> list[Column]:
  return [
    ('network', lambda name, row: PAPER[name].name),
    ('M parameters', lambda name, row: _millions(row, 'parameters', 1)),
    ('GMACs', lambda name, row: _billions(row, 'macs')),
    ("paper's top-1", lambda name, row: f'{PAPER[name].top1:.2f}'),
    (
      "paper's images/s",
      lambda name, row: f'{PAPER[name].images_per_sec:,.0f}',
    ),
    ("paper's epochs", lambda name, row: str(PAPER[name].epochs)),
    (
      'images/s here: forward',
      lambda name, row: _rate(row, 'forward_images_per_sec'),
    ),
    ('training', lambda name, row: _rate(row, 'train_images_per_sec')),
    ('top-1 here', lambda name, row: _number(row, 'measured_top1', 2)),
  ]


def _count_columns() -> list[Column]:
  return [
    ('network', lambda name, row: name),
    ('image size', lambda name, row: _text(row, 'image_size')),
    ('parameters', lambda name, row: _number(row, 'parameters', 0)),
    ('GMACs', lambda name, row: _billions(row, 'macs')),
    (
      'without depthwise',
      lambda name, row: _billions(row, 'macs_without_depthwise'),
    ),
    ('M activations', lambda name, row: _millions(row, 'activations', 2)),
  ]


def _speed_columns() -> list[Column]:
  return [
    ('network', lambda name, row: name),
    (
      'images/s: forward',
      lambda name, row: _rate(row, 'forward_images_per_sec'),
    ),
    ('training', lambda name, row: _rate(row, 'train_images_per_sec')),
    (
      'MiB: forward',
      lambda name, row: _number(row, 'forward_memory_mib', 0),
    ),
    ('training', lambda name, row: _number(row, 'train_memory_mib', 0)),
  ]


def _accuracy_tables(by_name: Mapping[str, Row]) -> Iterator[str]:
  """Yields titles and tables of accuracies, measured and published."""
  measured = [
    (name, f'{row["measured_top1"]:.2f}', *_origin(row))
    for name, row in by_name.items()
    if 'measured_top1' in row
  ]
  if measured:
    yield '## Accuracy measured here'
    yield _join(('network', 'top-1', 'weights', 'images'), measured)
  published = [
    (name, weights['weights'], _size(row, weights), f'{weights["top1"]:.3f}')
    for name, row in by_name.items()
    for weights in row.get('released', ())
  ]
  if published:
    yield '## Published accuracy of released weights'
    yield _join(('network', 'weights', 'image size', 'top-1'), published)
    yield (
      'On the validation images of ImageNet, as timm measured it. The first of '
      'a network are its usual ones; those with 21k or 22k in their name saw '
      'more than the images of ImageNet-1k. Counts in brackets: GMACs, '
      'activations and speeds above are of images of that size, not of the '
      'size of this accuracy.'
    )


def _size(row, weights):
  """Returns the size of an accuracy's images; with that of counts if other."""
  size = weights['size']
  counted = row['image_size']
  return size if size == counted else f'{size} (counts: {counted})'


def _origin(row):
  return row['measured_weights'], row['measured_on']


def _table(columns: Sequence[Column], rows: Mapping[str, Row]) -> str:
  """Returns a table without the columns that are empty in all rows."""
  cells = [
    [title, *(cell(name, row) for name, row in rows.items())]
    for title, cell in columns
  ]
  cells = [column for column in cells if any(column[1:])]
  header, *lines = zip(*cells, strict=True)
  return _join(header, lines)


def _join(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
  """Returns a table in Markdown."""
  rule = ['---', *['---:'] * (len(header) - 1)]
  return '\n'.join(
    f'| {" | ".join(map(str, line))} |' for line in [header, rule, *lines]
  )


def _text(row, key):
  return str(row.get(key, ''))


def _number(row, key, digits):
  return f'{row[key]:,.{digits}f}' if key in row else ''


def _millions(row, key, digits):
  return f'{row[key] / 1e6:,.{digits}f}' if key in row else ''


def _billions(row, key):
  return f'{row[key] / 1e9:,.2f}' if key in row else ''


def _rate(row, key):
  if key not in row:
    return ''
  return f'{row[key]:,.0f}' if row[key] >= 100 else f'{row[key]:.3g}'
