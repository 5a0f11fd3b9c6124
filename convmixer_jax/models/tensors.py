"""Checks of tensors in files that several networks' state dicts share."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from convmixer_jax.errors import UserError

_WRAPPERS = re.compile(r'^(?:_orig_mod\.|module\.)+')  # torch.compile, DDP
_SHOWN = 8  # names of a kind that an error lists


def without_wrappers(name: str) -> str:
  """Returns a tensor's name without the prefixes of PyTorch's wrappers."""
  return _WRAPPERS.sub('', name)


def compare(
  tensors: Mapping[str, np.ndarray],
  expected: Mapping[str, tuple[int, ...]],
  source: str,
  layout: str,
  network: str,
) -> None:
  """Raises UserError unless `tensors` are floats of the `expected` shapes.

  Args:
    tensors: by name.
    expected: shapes by name.
    source: what the tensors were read from, for the error.
    layout: what they are not, such as 'ConvMixer as timm lays it out'.
    network: what weights to give, such as 'ConvMixer'.
  """
  wrong = {
    'missing': [name for name in expected if name not in tensors],
    'surplus': [name for name in tensors if name not in expected],
    'misshapen': [
      f'{name} {tensors[name].shape} instead of {shape}'
      for name, shape in expected.items()
      if name in tensors and tensors[name].shape != shape
    ],
    'not of floating point': [
      f'{name} ({tensors[name].dtype})'
      for name in expected
      if name in tensors
      and not jnp.issubdtype(tensors[name].dtype, np.floating)
    ],
  }
  problems = [
    f'{kind}: {_listed(names)}' for kind, names in wrong.items() if names
  ]
  if problems:
    raise UserError(
      f'{source} is not a {layout}; {"; ".join(problems)}; give weights of a '
      f'{network}'
    )


def _listed(names):
  more = len(names) - _SHOWN
  return ', '.join(names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')
