"""`compare RUNS...`: runs beside each other, with intervals over seeds."""

from collections.abc import Callable, Sequence

import jax

from convmixer_jax import files
from convmixer_jax.cli import output_files
from convmixer_jax.sweeps import formats, page
from convmixer_jax.sweeps.comparison import Comparison, compare
from convmixer_jax.sweeps.results import find_runs


def compare_runs(
  paths: Sequence[str],
  by: Sequence[str],
  reference: str | None,
  metric: str | None,
  output: str | None,
) -> None:
  """Compares runs, prints the table, and writes the files if asked to.

  Args:
    paths: of runs, or of directories of runs.
    by: keys that make a row; see `compare`.
    reference: row to compare with.
    metric: that is compared.
    output: directory for the files; None to write none.
  """
  # Networks are traced for their size; a device may be in use by a run.
  jax.config.update('jax_platforms', 'cpu')
  comparison = compare(find_runs(paths), by, reference, metric)
  print(formats.to_text(comparison))
  if output is None:
    return
  contents: dict[str, Callable[[Comparison], str | bytes]] = {
    'compare.csv': formats.to_csv,
    'compare.md': formats.to_markdown,
    'compare.html': page.to_html,
    'compare.png': _to_png,
  }
  with output_files.make_directory(output) as directory:
    with output_files.one_line_errors(directory):
      for name, make in contents.items():
        files.write(directory / name, make(comparison))
    print(output_files.describe_written(directory, list(contents)))


def _to_png(comparison: Comparison) -> bytes:
  from convmixer_jax.analysis import plots  # matplotlib takes a second

  rows = [
    plots.ComparedRow(
      row.name,
      row.metric.mean,
      row.metric.half_width,
      [epoch for epoch, _ in row.curve],
      [interval.mean for _, interval in row.curve],
      [interval.half_width or 0.0 for _, interval in row.curve],
    )
    for row in comparison.rows
  ]
  return plots.to_png(plots.comparison(rows, comparison.metric))
