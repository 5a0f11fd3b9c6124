"""Evaluation reports: lines, result.json, classes.csv and three pictures."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath
from matplotlib.figure import Figure

from convmixer_jax.analysis import plots
from convmixer_jax.data.augment import transforms
from convmixer_jax.data.known_sets import data_name
from convmixer_jax.data.sources import Source
from convmixer_jax.evaluation.per_image import PerImageResults
from convmixer_jax.files import write as write_file

MOST_WRONG = 24  # pictures
MOST_LINES = 20  # classes in the table on the terminal


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns lines with the accuracy of each class; of many, the worst ones.

  Args:
    rows: as `class_rows` gives them.
  """
  shown = [row for row in rows if row['images']]
  title = 'class'
  if len(shown) > MOST_LINES:
    shown = sorted(shown, key=lambda row: row['accuracy'])[:MOST_LINES]
    title = f'the {MOST_LINES} worst classes'
  width = max(len(title), *(len(row['name']) for row in shown))
  lines = [f'{title:{width}}  images  top-1 %  top-5 %  most confused with']
  for row in shown:
    line = f'{row["name"]:{width}}  {row["images"]:6}  '
    line += f'{100 * row["accuracy"]:7.2f}  {100 * row["accuracy_top5"]:7.2f}'
    if row['most_confused_with'] is not None:
      line += f'  {row["most_confused_with"]} ({row["num_confused"]})'
    lines.append(line)
  return '\n'.join(lines)


def headline(results: PerImageResults, rows: Sequence[dict[str, Any]]) -> str:
  """Returns the metrics of all classes in one line."""
  del rows  # of other tasks
  metrics = results.metrics()
  return (
    f'top-1 {100 * metrics["eval_accuracy"]:.2f} %  '
    f'top-5 {100 * metrics["eval_accuracy_top5"]:.2f} %  '
    f'loss {metrics["eval_loss"]:.4f}  '
    f'calibration error {100 * results.calibration().error:.2f} %'
  )


def class_rows(
  results: PerImageResults, names: Sequence[str]
) -> list[dict[str, Any]]:
  """Returns `PerImageResults.per_class` with the names of the classes."""
  rows = []
  for number, row in enumerate(results.per_class()):
    other = row['most_confused_with']
    row['most_confused_with'] = None if other is None else names[other]
    rows.append({'number': number, 'name': names[number]} | row)
  return rows


def write(
  directory: epath.Path,
  summary: dict[str, Any],
  rows: Sequence[dict[str, Any]],
  results: PerImageResults,
  names: Sequence[str],
  source: Source,
  config: ml_collections.ConfigDict,
) -> list[str]:
  """Writes the files, over those of an earlier evaluation; returns the names.

  Args:
    directory: which is there.
    summary: metrics and what they are of, for result.json.
    rows: as `class_rows` gives them.
    results: of every image.
    names: of the classes, for people to read.
    source: of the images.
    config: `dataset` and `augment` say what the network saw of them.
  """
  data = data_name(summary['dataset'], config.dataset)
  title = f'{summary["network"]} on {data} {summary["split"]}'
  confusion = plots.confusion_matrix(results.confusion(), names, title)
  calibration = results.calibration()
  reliability = plots.reliability_diagram(
    calibration.images,
    calibration.accuracy,
    calibration.confidence,
    calibration.error,
    title,
  )
  figures = {
    'confusion': confusion,
    'calibration': reliability,
    'most_wrong': _draw_most_wrong(results, names, source, config),
  }
  summary = summary | {'calibration': calibration.to_json()}
  return write_files(directory, summary, rows, figures)


def write_files(
  directory: epath.Path,
  summary: dict[str, Any],
  rows: Sequence[dict[str, Any]],
  figures: Mapping[str, Figure | None],
) -> list[str]:
  """Writes result.json, classes.csv and pictures; returns the names.

  Args:
    directory: which is there.
    summary: metrics and what they are of.
    rows: of the classes.
    figures: by name. For None, one of an earlier evaluation is removed.
  """
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0].keys(), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  files = {
    'result.json': json.dumps(summary | {'classes': rows}, indent=2).encode(),
    'classes.csv': text.getvalue().encode(),
  }
  for name, figure in figures.items():
    if figure is None:
      (directory / f'{name}.png').unlink(missing_ok=True)
    else:
      files[f'{name}.png'] = plots.to_png(figure)
  for name, content in files.items():
    write_file(directory / name, content)
  return list(files)


def _draw_most_wrong(
  results: PerImageResults,
  names: Sequence[str],
  source: Source,
  config: ml_collections.ConfigDict,
) -> Figure | None:
  """Draws what the network saw of wrong images, the most wrong first."""
  order = np.argsort(-results.loss, kind='stable')
  order = order[~results.correct[order]][:MOST_WRONG]
  if not len(order):
    return None
  size = config.dataset.image_size
  images = [source[number]['image'] for number in results.number[order]]
  return plots.misclassified_images(
    [transforms.eval_transform(x, config.augment, size) for x in images],
    [(names[results.label[i]], math.exp(-results.loss[i])) for i in order],
    [(names[results.best[i, 0]], results.probability[i]) for i in order],
  )
