"""Metadata of weights: network, images, classes.

A file that we wrote has them in its safetensors header, a repository of timm's
in a config.json beside the weights. Here they are a dict with some of `KEYS`.
"""

import json
import os
from typing import Any

from convmixer_jax.config.images import to_image_size
from convmixer_jax.config.keys import check_value
from convmixer_jax.config.schema import SCHEMA
from convmixer_jax.data import identity
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json
from convmixer_jax.models import MODELS
from convmixer_jax.pretrained import thresholds

# Attributes of a `TrainedModel` that need not be known.
INPUT_KEYS = (
  'mean',
  'std',
  'image_size',
  'eval_crop_fraction',
  'eval_interpolation',
  'test_input',
  'eval_image_size',
  'class_names',
  'data',
  'multi_label',
  'thresholds',
)
KEYS = ('network', 'fields', *INPUT_KEYS)
_HEADER = 'convmixer_jax'
# The networks that timm has, by its names: ours, and the variant.
_TIMM = {
  timm_name: (name, variant)
  for name, architecture in MODELS.items()
  if architecture.state_dict
  for timm_name, variant in architecture.state_dict.timm_names.items()
}
_CHECKED = {
  name.rpartition('.')[-1]: SCHEMA[name]
  for name in (
    *('augment.eval_crop_fraction', 'augment.eval_image_size'),
    *('augment.eval_interpolation',),
    *('dataset.image_size', 'dataset.mean', 'dataset.std'),
  )
}
_WRONG = (OSError, ValueError, TypeError, AttributeError, LookupError)


def to_header(metadata: dict[str, Any]) -> dict[str, str]:
  """Returns the header of a safetensors file; `format` is for PyTorch."""
  return {'format': 'pt', _HEADER: json.dumps(metadata)}


def from_header(header: dict[str, str], path: str) -> dict[str, Any]:
  """Returns what `to_header` was given; empty if the file is not ours.

  Raises:
    UserError: it cannot be read.
  """
  try:
    found = {  # JSON has lists only
      key: tuple(value) if isinstance(value, list) else value
      for key, value in parse_json(header.get(_HEADER, '{}')).items()
      if key in KEYS and value is not None
    }
    if found.get('data') is not None:
      identity.check(found['data'])
    return _checked(found)
  except _WRONG as error:
    raise UserError(
      f'the header of {path} is damaged ({error}); fetch the file again'
    ) from error


def from_timm(path: str) -> dict[str, Any]:
  """Reads timm's config.json; empty if it is not there, or not timm's.

  Raises:
    UserError: it cannot be read.
  """
  if not os.path.exists(path):
    return {}
  try:
    with open(path) as file:
      config = parse_json(file.read())
    if 'architecture' not in config:
      return {}
    inputs = config.get('pretrained_cfg', config)
    metadata = {
      **_network(config['architecture']),
      'mean': _tuple(float, inputs.get('mean')),
      'std': _tuple(float, inputs.get('std')),
      'image_size': _image_size(inputs.get('input_size')),
      'eval_crop_fraction': inputs.get('crop_pct'),
      'eval_interpolation': inputs.get('interpolation'),
      'test_input': _test_input(inputs),
      'class_names': _class_names(inputs | config),
    }
    return _checked({k: v for k, v in metadata.items() if v is not None})
  except _WRONG as error:
    raise UserError(
      f"{path} is not a config.json of timm's ({type(error).__name__}: "
      f'{error}); fetch it again, or remove it'
    ) from error


def _checked(metadata):
  """Returns the metadata; raises UserError or TypeError for other values."""
  for name, key in _CHECKED.items():
    if metadata.get(name) is not None:
      check_value(name, metadata[name], key.default, key.ranges)
  known = [metadata[name] for name in ('mean', 'std') if metadata.get(name)]
  lengths = {len(values) for values in known}
  if len(known) == 1:
    lengths.add(3)  # the other is assumed, as for RGB
  if len(lengths) > 1:
    raise ValueError('mean and std have different lengths')
  if metadata.get('test_input') is not None:
    size, crop = metadata['test_input']
    size = tuple(size) if isinstance(size, list) else size
    _checked({'image_size': size, 'eval_crop_fraction': crop})
    metadata['test_input'] = size, crop
  fields = metadata.get('fields', {})
  class_names = metadata.get('class_names') or ()
  if not isinstance(fields, dict) or not isinstance(
    metadata.get('network', ''), str
  ):
    raise TypeError('network is not a string, or fields are not by name')
  if not isinstance(class_names, tuple) or not all(
    isinstance(name, str) for name in class_names
  ):
    raise TypeError('class_names are not strings')
  if type(metadata.get('multi_label', False)) is not bool:
    raise TypeError('multi_label is not true or false')
  thresholds.check_values(metadata.get('thresholds', ()))
  return metadata


def _network(timm_name):
  """Returns the network and all its fields, if the package has it."""
  if timm_name not in _TIMM:
    return {}
  name, variant = _TIMM[timm_name]
  return {'network': name, 'fields': dict(MODELS[name].variants[variant])}


def _image_size(input_size):
  """Returns a side or (height, width) of timm's channels, height, width."""
  return input_size and to_image_size(*input_size[1:])


def _test_input(inputs):
  """Returns the size at which timm tests, and the crop; None: as usual."""
  size = inputs.get('test_input_size')
  if size is None:
    return None
  crop = inputs.get('test_crop_pct') or inputs.get('crop_pct')
  return (_image_size(size), crop) if crop else None


def _tuple(kind, values):
  return None if values is None else tuple(map(kind, values))


def _class_names(config):
  """Returns the names, such as 'n01440764'; timm has them as list or dict."""
  names = config.get('label_names')
  if isinstance(names, dict):  # by number
    names = [names[str(i)] for i in range(len(names))]
  return _tuple(str, names)
