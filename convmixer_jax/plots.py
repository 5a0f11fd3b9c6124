"""Pictures: the learning curves of a run."""

import io

from matplotlib.figure import Figure


def learning_curves(rows: list[dict[str, float]]) -> Figure:
  """Draws loss, accuracy and learning rate against the epoch.

  Args:
    rows: of `metrics.csv`, as `metrics_table.read_table` gives them.
  """
  figure = Figure(figsize=(12, 3.6), layout='constrained')
  panels = {
    'loss': ('train_loss', 'eval_loss'),
    'accuracy': ('train_accuracy', 'eval_accuracy', 'eval_accuracy_top5'),
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


def to_png(figure: Figure) -> bytes:
  """Returns the picture as the bytes of a PNG file."""
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=120)
  return file.getvalue()
