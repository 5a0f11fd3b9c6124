"""What is told of weights beside their numbers: activation, input, labels.

In a file of ours it stands in the safetensors header, in a repository of timm's
in a config.json beside the weights. Here it is a dict with some of `KEYS`.
"""

import json
import os
from typing import Any

from convmixer_jax.errors import UserError
from convmixer_jax.variants import VARIANTS

KEYS = (
  'activation',
  'mean',
  'std',
  'image_size',
  'eval_crop_fraction',
  'labels',
)
_HEADER = 'convmixer_jax'
# The networks that timm has, by its names.
_TIMM = {
  'convmixer_1536_20': VARIANTS['1536_20'],
  'convmixer_768_32': VARIANTS['768_32'],
  'convmixer_1024_20_ks9_p14': VARIANTS['1024_20'],
}
_WRONG = (OSError, ValueError, TypeError, AttributeError, LookupError)


def to_header(record: dict[str, Any]) -> dict[str, str]:
  """Returns the header of a safetensors file; `format` is for PyTorch."""
  return {'format': 'pt', _HEADER: json.dumps(record)}


def from_header(header: dict[str, str], path: str) -> dict[str, Any]:
  """Returns what `to_header` was given; empty if the file is not ours.

  Raises:
    UserError: it cannot be read.
  """
  try:
    return from_json(header.get(_HEADER, '{}'))
  except _WRONG as error:
    raise UserError(
      f'the header of {path} is damaged ({error}); fetch the file again'
    ) from error


def from_json(text: str) -> dict[str, Any]:
  """Returns a record that was written as JSON, which knows no tuples."""
  return {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in json.loads(text).items()
    if key in KEYS
  }


def from_timm(path: str) -> dict[str, Any]:
  """Reads timm's config.json; empty if it is not there, or not timm's.

  Raises:
    UserError: it cannot be read.
  """
  if not os.path.exists(path):
    return {}
  try:
    with open(path) as file:
      config = json.load(file)
    if 'architecture' not in config:
      return {}
    inputs = config.get('pretrained_cfg', config)
    record = {
      'activation': _TIMM.get(config['architecture'], {}).get('activation'),
      'mean': _tuple(float, inputs.get('mean')),
      'std': _tuple(float, inputs.get('std')),
      'image_size': (inputs.get('input_size') or [None])[-1],
      'eval_crop_fraction': inputs.get('crop_pct'),
      'labels': _labels(inputs | config),
    }
  except _WRONG as error:
    raise UserError(
      f"{path} is no config.json of timm's ({type(error).__name__}: {error}); "
      'fetch it again, or take it away'
    ) from error
  return {key: value for key, value in record.items() if value is not None}


def _tuple(kind, values):
  return None if values is None else tuple(map(kind, values))


def _labels(config):
  """Returns the names, such as 'n01440764'; timm has them as list or dict."""
  names = config.get('label_names')
  if isinstance(names, dict):  # by number
    names = [names[str(i)] for i in range(len(names))]
  return _tuple(str, names)
