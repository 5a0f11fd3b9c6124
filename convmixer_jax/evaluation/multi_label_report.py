"""Reports of an evaluation of several labels an image; as `report`."""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath
from matplotlib.figure import Figure

from convmixer_jax.analysis import plots
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.sources import Source
from convmixer_jax.evaluation import report
from convmixer_jax.evaluation.multi_label import MultiLabelResults

_COLUMNS = {  # of the table: title, and factor of the value
  'images': ('images', 1),
  'average_precision': ('AP %', 100),
  'f1': ('F1 %', 100),
  'precision': ('prec. %', 100),
  'recall': ('recall %', 100),
  'threshold': ('threshold', 1),
}


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns lines with the metrics of each class; of many, the worst ones.

  Args:
    rows: as `class_rows` gives them.
  """
  shown, title = list(rows), 'class'
  if len(shown) > report.MOST_LINES:
    present = [row for row in rows if row['average_precision'] is not None]
    present.sort(key=lambda row: row['average_precision'])
    shown = present[: report.MOST_LINES]
    title = f'the {len(shown)} worst classes'
  width = max(len(title), *(len(row['name']) for row in shown))
  titles = '  '.join(f'{name:>9}' for name, _ in _COLUMNS.values())
  lines = [f'{title:{width}}  {titles}']
  for row in shown:
    cells = [_format(row[key], *_COLUMNS[key]) for key in _COLUMNS]
    lines.append(f'{row["name"]:{width}}  {"  ".join(cells)}')
  return '\n'.join(lines)


def _format(value, title, factor):
  if value is None:
    return f'{"-":>9}'
  if isinstance(value, int):
    return f'{value:9}'
  return f'{factor * value:9.{2 if factor > 1 else 4}f}'


def class_rows(
  results: MultiLabelResults, names: Sequence[str]
) -> list[dict[str, Any]]:
  """Returns `MultiLabelResults.per_class` with the names of the classes."""
  return [
    {'number': number, 'name': names[number]} | row
    for number, row in enumerate(results.per_class())
  ]


def headline(results: MultiLabelResults, rows: Sequence[dict[str, Any]]) -> str:
  """Returns the metrics of all classes in one line."""
  metrics = results.metrics()
  absent = sum(row['average_precision'] is None for row in rows)
  left_out = f' (without {absent} classes of no image)' if absent else ''
  precision = 100 * metrics['eval_mean_average_precision']
  return (
    f'mean average precision {precision:.2f} %{left_out}  '
    f'F1 {100 * metrics["eval_f1_micro"]:.2f} % micro, '
    f'{100 * metrics["eval_f1_macro"]:.2f} % macro  '
    f'loss {metrics["eval_loss"]:.4f}'
  )


def write(
  directory: epath.Path,
  summary: dict[str, Any],
  rows: Sequence[dict[str, Any]],
  results: MultiLabelResults,
  names: Sequence[str],
  source: Source,
  config: ml_collections.ConfigDict,
) -> list[str]:
  """Writes result.json, classes.csv and most_wrong.png; returns the names.

  There is no confusion matrix: an image has no single right class. See
  `report.write` for the arguments.
  """
  most_wrong = _draw_most_wrong(results, names, source, config)
  figures = {'confusion': None, 'calibration': None, 'most_wrong': most_wrong}
  return report.write_files(directory, summary, rows, figures)


def _draw_most_wrong(
  results: MultiLabelResults,
  names: Sequence[str],
  source: Source,
  config: ml_collections.ConfigDict,
) -> Figure | None:
  """Draws what the network saw of wrong images, those of most loss first."""
  predicted, label = results.predicted(), results.label > 0
  order = np.argsort(-results.loss, kind='stable')
  order = order[(predicted != label).any(axis=1)[order]][: report.MOST_WRONG]
  if not len(order):
    return None
  size = config.dataset.image_size
  images = [source[int(results.number[i])]['image'] for i in order]

  def texts(chosen):
    return [
      ', '.join(names[k] for k in np.flatnonzero(chosen[i])) or '(no class)'
      for i in order
    ]

  return plots.images_of_wrong_labels(
    [transforms.eval_transform(x, config.augment, size) for x in images],
    texts(label),
    texts(predicted),
    results.loss[order].tolist(),
  )
