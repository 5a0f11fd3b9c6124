"""Pictures of a comparison as SVG: points with intervals, and curves."""

import html
import math
from collections.abc import Sequence

from convmixer_jax.sweeps.comparison import Comparison

WIDTH = 760
_MARGIN = 56
_CURVES_HEIGHT = 380
_LINE = 26  # height of a row among the points
_NAME_LENGTH = 36  # characters of their names
_LETTER = 6.5  # width of one
_MOST_BANDS = 6  # that can be told apart
_COLOURS = (  # told apart also by most who see few colours (Okabe and Ito)
  *('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'),
  *('#7f7f7f', '#000000'),
)
_DASHES = '', '6 3', '2 2', '8 3 2 3'


def style(index: int) -> tuple[str, str]:
  """Returns colour and dashes of a row, which differ for 32 rows."""
  dashes = _DASHES[index // len(_COLOURS) % len(_DASHES)]
  return _COLOURS[index % len(_COLOURS)], dashes


def swatch(index: int) -> str:
  """Returns a piece of the line that a row has in the curves."""
  colour, dashes = style(index)
  return (
    '<svg class="swatch" viewBox="0 0 32 8"><line x1="0" y1="4" x2="32" '
    f'y2="4" stroke="{colour}" stroke-width="4" stroke-dasharray="{dashes}"/>'
    '</svg>'
  )


def ticks(low: float, high: float, count: int = 6) -> list[float]:
  """Returns round numbers from `low` to `high`, about `count` of them."""
  span = high - low or abs(low) or 1.0
  step = 10 ** math.floor(math.log10(span / count))
  for factor in (1, 2, 5, 10):
    if span / (step * factor) <= count:
      step *= factor
      break
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [round(step * i, 12) for i in range(first, last + 1)]


def points(comparison: Comparison) -> str:
  """Returns the SVG of the metric of each row, with its interval."""
  rows = comparison.rows
  names = [_shortened(row.name) for row in rows]
  labels = 20 + _LETTER * max(map(len, names))
  ends = [end for row in rows for end in (row.metric.low, row.metric.high)]
  low, high = _padded(ends)
  height = _LINE * len(rows) + _MARGIN

  def x(value):
    return labels + (value - low) / (high - low) * (WIDTH - labels - 20)

  parts = [
    f'<line x1="{x(tick):.1f}" y1="8" x2="{x(tick):.1f}" '
    f'y2="{height - _MARGIN + 8}" class="grid"/>'
    f'<text x="{x(tick):.1f}" y="{height - _MARGIN + 26}" class="middle">'
    f'{tick:g}</text>'
    for tick in ticks(low, high)
  ]
  for i, row in enumerate(rows):
    colour, _ = style(i)
    y = 8 + _LINE * (i + 0.5)
    mark = (
      f'<text x="{labels - 12}" y="{y + 4:.1f}" class="end">'
      f'{html.escape(names[i])}</text>'
    )
    if not math.isfinite(row.metric.mean):
      parts.append(_group(i, mark))
      continue
    if row.metric.half_width is not None:
      left, right = x(row.metric.low), x(row.metric.high)
      mark += (
        f'<line x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}" '
        f'stroke="{colour}" stroke-width="2"/>'
      )
    mark += (
      f'<circle cx="{x(row.metric.mean):.1f}" cy="{y}" r="4" fill="{colour}"/>'
    )
    parts.append(_group(i, mark))
  parts.append(
    f'<text x="{(WIDTH + labels) / 2}" y="{height - 10}" class="middle">'
    f'{html.escape(comparison.metric)}, 95 % interval</text>'
  )
  return _svg(height, parts)


def curves(comparison: Comparison) -> str:
  """Returns the SVG of the metric by epoch, with bands of the intervals."""
  rows = comparison.rows
  drawn = [
    [point for point in row.curve if math.isfinite(point[1].mean)]
    for row in rows
  ]
  shown = [point for curve in drawn for point in curve]
  if not shown:
    return ''
  epochs = [epoch for epoch, _ in shown]
  means = [interval.mean for _, interval in shown]
  # A band of few seeds may be far wider than all means.
  low, high = _padded(means)
  first, last = min(epochs), max(epochs)
  bottom = _CURVES_HEIGHT - _MARGIN

  def x(epoch):
    share = (epoch - first) / (last - first or 1)
    return _MARGIN + share * (WIDTH - _MARGIN - 20)

  def y(value):
    return bottom - (value - low) / (high - low) * (bottom - 12)

  parts = [
    f'<line x1="{_MARGIN}" y1="{y(tick):.1f}" x2="{WIDTH - 20}" '
    f'y2="{y(tick):.1f}" class="grid"/>'
    f'<text x="{_MARGIN - 8}" y="{y(tick) + 4:.1f}" class="end">{tick:g}</text>'
    for tick in ticks(low, high)
  ]
  parts += [
    f'<text x="{x(tick):.1f}" y="{bottom + 20}" class="middle">{tick:g}</text>'
    for tick in ticks(first, last, 8)
  ]
  band = 'band' if len(rows) <= _MOST_BANDS else 'band faint'
  for i, curve in enumerate(drawn):
    colour, dashes = style(i)
    mark = ''
    if any(interval.half_width for _, interval in curve):
      upper = [(x(e), y(interval.high)) for e, interval in curve]
      lower = [(x(e), y(interval.low)) for e, interval in curve]
      mark += (
        f'<polygon points="{_join([*upper, *reversed(lower)])}" '
        f'fill="{colour}" class="{band}" clip-path="url(#inside)"/>'
      )
    line = [(x(e), y(interval.mean)) for e, interval in curve]
    mark += (
      f'<polyline points="{_join(line)}" fill="none" stroke="{colour}" '
      f'stroke-width="2" stroke-dasharray="{dashes}"/>'
    )
    if len(line) == 1:
      mark += (
        f'<circle cx="{line[0][0]:.1f}" cy="{line[0][1]:.1f}" r="4" '
        f'fill="{colour}"/>'
      )
    parts.append(_group(i, mark))
  parts = [
    f'<clipPath id="inside"><rect x="{_MARGIN}" y="12" '
    f'width="{WIDTH - _MARGIN - 20}" height="{bottom - 12}"/></clipPath>',
    *parts,
    f'<text x="{WIDTH / 2}" y="{_CURVES_HEIGHT - 12}" class="middle">epoch'
    '</text>',
  ]
  return _svg(_CURVES_HEIGHT, parts)


def _shortened(name):
  """Returns a name of limited length; names differ at their ends, too."""
  if len(name) <= _NAME_LENGTH:
    return name
  half = _NAME_LENGTH // 2
  return f'{name[: half - 1]}…{name[-half:]}'


def _group(index: int, content: str) -> str:
  return f'<g class="row" data-row="{index}">{content}</g>'


def _svg(height: float, parts: Sequence[str]) -> str:
  return (
    f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
  )


def _join(places):
  return ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)


def _padded(values):
  """Returns ends of an axis for the values that are finite."""
  finite = [value for value in values if math.isfinite(value)] or [0.0]
  low, high = min(finite), max(finite)
  margin = (high - low or abs(low) or 1.0) * 0.05
  return low - margin, high + margin
