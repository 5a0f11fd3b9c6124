"""A progress bar for notebooks: a widget, or text where there are none."""

import importlib.util
import sys
from typing import Any

import tqdm


def in_notebook() -> bool:
  """Returns whether this code runs in the kernel of a notebook."""
  module = sys.modules.get('IPython')
  shell = module.get_ipython() if module else None
  return hasattr(shell, 'kernel')  # not in IPython in a terminal


def make_notebook_bar(**options: Any) -> tqdm.tqdm:
  """Returns a bar that the cell shows.

  Args:
    **options: of tqdm.
  """
  if importlib.util.find_spec('ipywidgets'):
    from tqdm.notebook import tqdm as widget

    return widget(**options)
  # Text grows in the file of the notebook with each update.
  return tqdm.tqdm(**options, file=sys.stdout, ncols=80, mininterval=1)
