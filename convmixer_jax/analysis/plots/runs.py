"""Plots of runs: learning curves and comparisons."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.text import add_title, literal_text

_TOP5 = 'eval_accuracy_top5'
_NEAR_ONE = 0.99


def learning_curves(
  rows: Sequence[Mapping[str, float]],
  name: str = '',
  metric: str = 'eval_accuracy',
) -> Figure:
  """Draws loss, accuracy and learning rate against the epoch.

  With several labels an image, F1 and average precision take the place of the
  accuracy. The top-5 accuracy, which is much higher, has a panel of its own; it
  is left out if it ends near 1, as with few classes.

  Args:
    rows: rows of `metrics.csv`, from `metrics_table.read_table`.
    name: of the network and its data, for the title.
    metric: whose best value is in the title, if the rows have it.
  """
  panels = {
    'loss': ('train_loss', 'eval_loss'),
    **_score_panels(rows),
    'learning rate': ('learning_rate',),
  }
  figure = Figure(figsize=(4 * len(panels), 3.8), layout='constrained')
  for axes, (title, names) in zip(
    figure.subplots(1, len(panels)), panels.items(), strict=True
  ):
    for label in names:
      points = [(row['epoch'], row[label]) for row in rows if label in row]
      if points:
        marker = 'o' if label.startswith('eval') else None
        axes.plot(*zip(*points, strict=True), label=label, marker=marker, ms=3)
    axes.set(xlabel='epoch', title=title)
    axes.grid(alpha=0.3)
    if axes.lines:
      axes.legend()
  with literal_text([name]) as literal:
    add_title(figure, literal(name), _best(rows, metric))
  return figure


def _score_panels(rows):
  """Returns the panels of accuracy, or that of several labels an image."""
  several = (
    'train_f1_micro',
    'eval_f1_micro',
    'eval_f1_macro',
    'eval_mean_average_precision',
  )
  if any(name in row for row in rows for name in several):
    return {'F1 and average precision': several}
  panels = {'accuracy': ('train_accuracy', 'eval_accuracy')}
  top5 = [row[_TOP5] for row in rows if _TOP5 in row]
  if top5 and top5[-1] < _NEAR_ONE:
    panels['top-5 accuracy'] = (_TOP5,)
  return panels


def _best(rows, metric):
  """Returns the best value of a metric and its epoch in words, '' if none."""
  found = [row for row in rows if metric in row]
  if not found:
    return ''
  best = max(found, key=lambda row: (row[metric], row['epoch']))
  return f'best {metric} {best[metric]:.4f} after epoch {best["epoch"]:.4g}'


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
