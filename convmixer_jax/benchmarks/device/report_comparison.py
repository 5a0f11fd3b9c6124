"""Formats the networks that a run compared."""

from collections.abc import Sequence

from convmixer_jax.benchmarks.device.rows import Row
from convmixer_jax.benchmarks.device.tables import table

# Title, key of a row, divisor and format.
_COLUMNS = (
  ('M parameters', 'parameters', 1e6, ',.1f'),
  ('GMACs', 'macs', 1e9, ',.2f'),
  ('M activations', 'activations', 1e6, ',.2f'),
  ('images/s: forward', 'forward_images_per_sec', 1, ',.1f'),
  ('training', 'train_images_per_sec', 1, ',.1f'),
  ('MiB: forward', 'forward_memory_mib', 1, ',.0f'),
  ('training', 'train_memory_mib', 1, ',.0f'),
  ('top-1, %', 'top1', 1, '.2f'),
)


def format_comparison(rows: Sequence[Row]) -> str:
  """Returns a table with a line for each network; '' if there is none.

  Args:
    rows: of the stage; what a network lacks is empty.
  """
  counted = [row for row in rows if 'parameters' in row]
  if not counted:
    return ''
  lines = [
    (
      row['network'],
      *(
        f'{row[key] / divisor:{form}}' if key in row else ''
        for _, key, divisor, form in _COLUMNS
      ),
      row.get('top1_source', ''),
    )
    for row in counted
  ]
  header = ('network', *(title for title, *_ in _COLUMNS), 'source')
  return '\n\n'.join(
    (
      '## Networks compared',
      table(header, lines),
      'Counts are for one image; memory is what the compiled program needs. '
      '`compare.md` has more columns and the machine, `compare.csv` all of '
      'them, `compare.png` accuracy against images/s.',
    )
  )
