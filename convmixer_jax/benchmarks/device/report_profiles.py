"""Formats what the time of a step is divided among on a GPU."""

from collections.abc import Sequence

from convmixer_jax.benchmarks.device.rows import Row
from convmixer_jax.benchmarks.device.tables import table


def format_profiles(rows: Sequence[Row]) -> str:
  """Returns a table of the longest kernels for each network; '' if none."""
  parts = []
  for row in rows:
    if 'kernels' not in row:
      continue
    lines = [
      (name, f'{count:g}', f'{time / count:,.1f}', f'{time:,.0f}')
      for name, count, time in row['kernels']
    ]
    parts += [
      f'{row["network"]}, {row["framework"]}: all kernels take '
      f'{1e3 * row["kernels_seconds"]:,.2f} ms; the longest:',
      table(('kernel', 'launches', 'us each', 'us'), lines),
    ]
  if not parts:
    return ''
  return '\n\n'.join(['## Kernels of a training step, bfloat16', *parts])
