"""Names in pictures: any characters, and no formulas."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import cbook, font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from convmixer_jax.analysis import plots
from convmixer_jax.analysis.plots.text import literal_text, shorten

CAT, DOG = '\u732b', '\u72d7'


@pytest.fixture
def fonts(tmp_path, monkeypatch):
  """A font that has the glyph of CAT only is all that is installed."""
  pen = TTGlyphPen(None)
  pen.moveTo((0, 0))
  pen.lineTo((0, 500))
  pen.lineTo((500, 500))
  pen.closePath()
  glyph = pen.glyph()
  builder = FontBuilder(1000)
  builder.setupGlyphOrder(['.notdef', 'cat'])
  builder.setupCharacterMap({ord(CAT): 'cat'})
  builder.setupGlyf({'.notdef': glyph, 'cat': glyph})
  builder.setupHorizontalMetrics({'.notdef': (600, 0), 'cat': (600, 0)})
  builder.setupHorizontalHeader(ascent=800, descent=-200)
  builder.setupNameTable({'familyName': 'Tiny Cats', 'styleName': 'Regular'})
  builder.setupOS2()
  builder.setupPost()
  path = str(tmp_path / 'cats.ttf')
  builder.save(path)
  monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: [path])
  manager = font_manager.fontManager
  monkeypatch.setattr(manager, 'ttflist', list(manager.ttflist))


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    ('26 characters of a class..', '26 characters of a class..'),
    ('a class of more than 26 letters', 'a class of more than 26 l\u2026'),
    ('Pseudomonas_aeruginosa_PAO1', 'Pseudomonas_aeruginosa_PA\u2026'),
    ('in two\nlines', 'in two lines'),
  ],
)
def test_long_name_begins_as_it_does_in_the_data(name, shown):
  assert shorten(name) == shown


def test_characters_come_from_any_font_that_has_them(fonts, caplog):
  figure = Figure()
  with literal_text([CAT]) as literal:
    text = figure.text(0, 0, literal(CAT))
  assert text.get_text() == CAT
  assert text.get_fontfamily()[-1] == 'Tiny Cats'
  plots.to_png(figure)  # matplotlib's warning of a missing glyph is an error
  assert not caplog.records


def test_characters_that_no_font_has_are_escaped_with_one_line(fonts, caplog):
  pairs = [[0, 0, 3], [1, 0, 2]]
  figure = plots.confusion_matrix(np.array(pairs), [CAT, f'{DOG} 1'])
  shown = {text.get_text() for text in figure.findobj(Text)}
  assert shown >= {CAT, r'\u72d7 1'}
  plots.to_png(figure)
  (record,) = caplog.records
  assert f'no installed font has {DOG}' in record.getMessage()


def test_dollars_do_not_begin_a_formula():
  names = [r'$\frac{$', 'US$5 and $6']
  runs = {name: [{'epoch': 1, 'x': 0.5}] for name in names}
  for figure in (
    plots.compare_runs(runs, 'x'),
    plots.confusion_matrix(np.array([[0, 1, 1]]), names),
  ):
    plots.to_png(figure)  # a formula that is wrong is an error
  texts = figure.findobj(Text)
  (text,) = {t.get_text() for t in texts if 'US' in t.get_text()}
  assert not cbook.is_math_text(text)
