"""The model card of an exported network: its inputs, outputs and accuracy."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import ml_collections

from convmixer_jax.analysis import flops
from convmixer_jax.config import image_shape
from convmixer_jax.models import architecture_of
from convmixer_jax.pretrained.trained_model import TrainedModel
from convmixer_jax.versions import package_versions

_CHANNELS = {1: 'grey', 3: 'red, green, blue'}
_VALUES = {
  'uint8': ', from 0 to 255',
  'uint16': ', from 0 to 65535',
  'float32': '',
}
_UNITS = {
  'uint8': 'pixels / 255',
  'uint16': 'pixels / 65535',
  'float32': 'pixels',
}


@dataclasses.dataclass(frozen=True)
class Format:
  """A file format.

  Attributes:
    file: name of the file, in the directory of the card.
    needs: the command that installs the packages to load it.
    load: Python code that computes `outputs` from `images`, in that directory.
  """

  file: str
  needs: str
  load: str


def model_card(
  network: TrainedModel,
  config: ml_collections.ConfigDict,
  formats: Sequence[Format],
  *,
  probabilities: bool = False,
) -> dict[str, Any]:
  """Returns the model card of exported files.

  Args:
    network: the exported network.
    config: its config from `network.eval_config`.
    formats: formats of the files.
    probabilities: whether the outputs are probabilities, not logits.

  Returns:
    A dict for JSON. `accuracy` and `training` are None if the network does not
    come from a run.
  """
  model, dataset = network.model, config.dataset
  shape = image_shape(dataset)
  height, width, channels = shape
  dtype = network.image_dtype
  resample = config.augment.eval_interpolation
  return {
    'name': network.name,
    'size': {
      **architecture_of(model).network_fields(model),
      'parameters': flops.count_parameters(model, shape[:2], channels),
      'macs': flops.count_forward(model, shape[:2], 1, channels).total,
    },
    'input': {
      'shape': ['batch', *shape],
      'dtype': dtype,
      'channels': _CHANNELS.get(channels, f'{channels} channels')
      + _VALUES[dtype],
      'eval_crop_fraction': config.augment.eval_crop_fraction,
      'resize': (
        'so that the short side is floor(side / eval_crop_fraction), '
        f'{resample} with antialiasing; then crop the central square'
        if height == width
        else 'to the smallest size of the same aspect ratio that covers '
        'floor(height / eval_crop_fraction) x floor(width / '
        f'eval_crop_fraction), {resample} with antialiasing; then crop the '
        'centre'
      ),
    },
    'normalization': {
      'mean': list(dataset.mean),
      'std': list(dataset.std),
      'of': f'{_UNITS[dtype]}, by channel; it is part of the file',
    },
    'output': {
      'shape': ['batch', model.num_classes],
      'dtype': 'float32',
      'values': 'probabilities' if probabilities else 'logits',
      **_describe_labels(network),
    },
    'labels': network.labels(),
    'data': network.data,
    'accuracy': _accuracy(network),
    'training': (
      None
      if network.config is None
      else json.loads(network.config.to_json_best_effort())
    ),
    'versions': package_versions(),
    'files': [dataclasses.asdict(kind) for kind in formats],
  }


def _describe_labels(network: TrainedModel) -> dict[str, Any]:
  """Returns how the outputs become classes, if there may be several."""
  if not network.multi_label:
    return {}
  return {
    'multi_label': True,
    'probabilities': 'sigmoid of the logits, each class by itself',
    'thresholds': network.class_thresholds().tolist(),
    'thresholds_from': network.thresholds_from or 'none were chosen',
    'classes': 'those whose probability is at least their threshold',
  }


def _accuracy(network: TrainedModel) -> dict[str, Any] | None:
  """Returns the metrics of this step on the evaluation split, if measured."""
  if not network.metrics or network.config is None:
    return None
  dataset = network.config.dataset
  return {
    **network.metrics,
    'step': network.step,
    'dataset': dataset.name,
    'split': dataset.eval_split,
    'image_size': dataset.image_size,
  }
