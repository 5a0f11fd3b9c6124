"""A comparison as one HTML page that needs nothing else, also no network."""

import html
import math

from convmixer_jax.sweeps import formats, svg
from convmixer_jax.sweeps.comparison import Comparison, Row

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; background:
  linear-gradient(to right, #fff 50%, #fff0 75%) 0 / 60px 100% no-repeat local,
  linear-gradient(to right, #fff0 25%, #fff 50%) 100% / 60px 100% no-repeat
  local, linear-gradient(to left, #0003, #0000) 100% / 14px 100% no-repeat; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #ddd;
  text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th button { font: inherit; font-weight: 600; border: 0; background: none;
  cursor: pointer; padding: 0; color: inherit; }
th[aria-sort=ascending] button::after { content: " \\25b2"; }
th[aria-sort=descending] button::after { content: " \\25bc"; }
tbody tr.chosen { background: #eef4fb; }
svg { width: 100%; height: auto; font-size: 12px; }
svg.swatch { width: 2rem; height: .5rem; margin-right: .5rem;
  vertical-align: middle; }
svg text { fill: #333; } .middle { text-anchor: middle; }
.end { text-anchor: end; } .grid { stroke: #e4e4e4; }
.band { opacity: .15; } .faint { opacity: .04; }
.chosen .band { opacity: .25; }
svg.dim .row { opacity: .12; } svg.dim .row.chosen { opacity: 1; }
.notes { color: #444; } code { font-size: .9em; }
@media (max-width: 700px) { body { margin: 1rem auto; }
  table { font-size: 13px; }
  th, td { padding: .3rem .4rem; } .picture svg { min-width: 500px; } }
"""
_SCRIPT = """
const body = document.querySelector('#table tbody');
document.querySelectorAll('#table th').forEach((head, column) => {
  head.querySelector('button').addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') !== 'descending';
    document.querySelectorAll('#table th').forEach(
      each => each.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => {
      const text = row.cells[column].dataset.value;
      return text === '' || isNaN(text) ? text : Number(text);
    };
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      const order = x < y ? -1 : x > y ? 1 : 0;
      return down ? -order : order;
    });
    body.append(...rows);
  });
});
const choose = index => {
  document.querySelectorAll('svg:not(.swatch)').forEach(
    svg => svg.classList.toggle('dim', index !== null));
  document.querySelectorAll('[data-row]').forEach(
    each => each.classList.toggle('chosen', each.dataset.row === index));
};
document.querySelectorAll('[data-row]').forEach(each => {
  each.addEventListener('mouseenter', () => choose(each.dataset.row));
  each.addEventListener('mouseleave', () => choose(null));
});
"""


def to_html(comparison: Comparison) -> str:
  """Returns the page: a table to sort, pictures, and all runs."""
  title = formats.title(comparison)
  notes = ''.join(
    f'<p class="notes">{html.escape(note)}</p>'
    for note in formats.notes(comparison)
  )
  curves = svg.curves(comparison)
  sections = [
    f'<h1>{html.escape(title)}</h1>',
    _table(comparison),
    notes,
    f'<h2>{html.escape(comparison.metric)} after the last epoch</h2>',
    _picture(svg.points(comparison)),
  ]
  if curves:
    sections += [
      '<h2>Learning curves</h2>',
      '<p class="notes">Mean over the runs of a row; the band is its 95 % '
      'interval. Lines are as in the table; point at a row to see it alone.'
      '</p>',
      _picture(curves),
    ]
  sections += ['<h2>Runs</h2>', _runs(comparison)]
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n'
    f'<body>{"".join(sections)}\n<script>{_SCRIPT}</script></body></html>\n'
  )


def _picture(content: str) -> str:
  """Returns a picture that scrolls where it would be too small to read."""
  return f'<div class="wide picture">{content}</div>'


def _table(comparison: Comparison) -> str:
  titles = [title.format(metric=comparison.metric) for title in formats.HEAD]
  head = ''.join(
    f'<th scope="col"><button type="button">{html.escape(title)}</button></th>'
    for title in titles
  )
  rows = ''.join(
    f'<tr data-row="{i}">{_cells(i, row)}</tr>'
    for i, row in enumerate(comparison.rows)
  )
  return (
    f'<div class="wide"><table id="table"><thead><tr>{head}</tr></thead>'
    f'<tbody>{rows}</tbody></table></div>'
  )


def _cells(index: int, row: Row) -> str:
  values = [
    row.name,
    row.metric.num_values,
    row.parameters[0] if row.parameters else '',
    row.macs[0] if row.macs else '',
    '' if row.images_per_sec is None else row.images_per_sec,
    row.metric.mean,
    0 if row.difference is None else row.difference.mean,
  ]
  texts = [html.escape(text) for text in formats.cells(row)]
  texts[0] = svg.swatch(index) + texts[0]
  return ''.join(
    f'<td data-value="{html.escape(_number(value))}">{text}</td>'
    for value, text in zip(values, texts, strict=True)
  )


def _number(value):
  """Returns a value to sort by; nothing for numbers that are not finite."""
  is_finite = isinstance(value, str) or math.isfinite(value)
  return str(value) if is_finite else ''


def _runs(comparison: Comparison) -> str:
  rows = ''.join(
    f'<tr><td><code>{html.escape(run.name)}</code></td><td>{run.seed}</td>'
    f'<td>{run.progress.epoch:g}</td>'
    f'<td>{run.progress.metrics[comparison.metric]:.4f}</td></tr>'
    for row in comparison.rows
    for run in row.runs
  )
  return (
    '<div class="wide"><table><thead><tr><th>run</th><th>seed</th>'
    f'<th>epochs</th><th>{html.escape(comparison.metric)}</th></tr></thead>'
    f'<tbody>{rows}</tbody></table></div>'
  )
