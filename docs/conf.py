"""How Sphinx builds these pages: `make docs`.

The source directory is the whole checkout, so that links between these pages,
README.md, results/ and the code work here as they do on GitHub.
"""

project = 'ConvMixer in JAX'
author = 'The authors of ConvMixer in JAX'
extensions = ['myst_parser']
root_doc = 'docs/index'
include_patterns = [
  'README.md',
  'CHANGELOG.md',
  'docs/*.md',
  'results/*.md',
  'results/**/*.md',
]
exclude_patterns = ['.*', 'data', 'runs', 'docs/_build']  # not to walk through
html_theme = 'furo'
html_title = project
html_static_path = ['_static']
html_css_files = ['wide.css']
myst_heading_anchors = 3
nitpicky = True
