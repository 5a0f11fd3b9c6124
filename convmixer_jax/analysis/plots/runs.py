"""Plots of runs: learning curves and comparisons."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.text import literal_text


def learning_curves(rows: list[dict[str, float]]) -> Figure:
  """Draws loss, accuracy (or F1) and learning rate against the epoch.

  Args:
    rows: rows of `metrics.csv`, from `metrics_table.read_table`.
  """
  figure = Figure(figsize=(12, 3.6), layout='constrained')
  panels = {
    'loss': ('train_loss', 'eval_loss'),
    **_score_panel(rows),
    'learning rate': ('learning_rate',),
  }
  for axes, (title, names) in zip(
    figure.subplots(1, len(panels)), panels.items(), strict=True
  ):
    for name in names:
      points = [(row['epoch'], row[name]) for row in rows if name in row]
      if points:
        marker = 'o' if name.startswith('eval') else None
        axes.plot(*zip(*points, strict=True), label=name, marker=marker, ms=3)
    axes.set(xlabel='epoch', title=title)
    axes.grid(alpha=0.3)
    if axes.lines:
      axes.legend()
  return figure


def _score_panel(rows):
  """Returns the panel of accuracy, or that of several labels an image."""
  several = (
    'train_f1_micro',
    'eval_f1_micro',
    'eval_f1_macro',
    'eval_mean_average_precision',
  )
  if any(name in row for row in rows for name in several):
    return {'F1 and average precision': several}
  return {'accuracy': ('train_accuracy', 'eval_accuracy', 'eval_accuracy_top5')}


def compare_runs(
  runs: Mapping[str, Sequence[Mapping[str, float]]], metric: str
) -> Figure:
  """Draws one metric of several runs against the epoch.

  Args:
    runs: rows of `metrics.csv`, by name of the run.
    metric: name of the metric, such as 'eval_accuracy'.
  """
  figure = Figure(figsize=(6, 3.6), layout='constrained')
  axes = figure.subplots()
  with literal_text(runs) as literal:
    for name, rows in runs.items():
      points = [(row['epoch'], row[metric]) for row in rows if metric in row]
      label = literal(name)
      axes.plot(*zip(*points, strict=True), label=label, marker='o', ms=3)
    axes.set(xlabel='epoch', ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
  return figure
