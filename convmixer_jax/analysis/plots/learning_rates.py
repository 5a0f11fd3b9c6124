"""The plot of a sweep of learning rates."""

import numpy as np
from matplotlib.figure import Figure

from convmixer_jax.analysis.plots.text import add_title, literal_text


def learning_rate_sweep(
  rates: np.ndarray,
  losses: np.ndarray,
  smoothed: np.ndarray,
  marks: dict[str, float],
  name: str = '',
) -> Figure:
  """Draws the loss against the learning rate, on a logarithmic axis.

  Args:
    rates: `[N]`.
    losses: `[N]`, of each step.
    smoothed: `[N]`.
    marks: rates to mark, by their label.
    name: of the network and its data, for the title.
  """
  figure = Figure(figsize=(7, 4), layout='constrained')
  axes = figure.subplots()
  axes.plot(rates, losses, color='C0', alpha=0.3, lw=0.8, label='loss')
  axes.plot(rates, smoothed, color='C0', label='smoothed')
  for number, (label, rate) in enumerate(marks.items(), start=1):
    axes.axvline(
      rate, color=f'C{number}', ls='--', label=f'{label}: {rate:.2g}'
    )
  axes.set(xscale='log', xlabel='learning rate', ylabel='training loss')
  # The losses of the last steps, which diverge, would flatten the rest.
  low, high = smoothed.min(), smoothed[: np.argmin(smoothed) + 1].max()
  margin = 0.15 * (high - low)
  axes.set_ylim(low - margin, high + 4 * margin)
  axes.grid(alpha=0.3)
  axes.legend()
  with literal_text([name]) as literal:
    add_title(figure, 'Learning rates', literal(name))
  return figure
