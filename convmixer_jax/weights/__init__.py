"""Weights in and out: timm's, the authors', and files of our own.

from convmixer_jax import models, weights
loaded = weights.load('hf://timm/convmixer_768_32.in1k')
model = models.ConvMixer(**loaded.model, num_classes=loaded.num_classes)
logits = model.apply(loaded.variables, images, train=False)
"""

import contextlib
import dataclasses
import os
import tempfile
from typing import Any

import safetensors
import safetensors.numpy
from absl import logging
from etils import epath

from convmixer_jax import files
from convmixer_jax.config import choose_variant
from convmixer_jax.errors import UserError
from convmixer_jax.ops import ACTIVATIONS
from convmixer_jax.variants import VARIANTS
from convmixer_jax.weights import hub, layouts, records, torch_files


@dataclasses.dataclass(frozen=True)
class Weights:
  """A trained network, and what is known of its images.

  Attributes:
    model: `width`, `depth`, `patch_size`, `kernel_size` and `activation`, as in
      `config.model`.
    num_classes: outputs of the head.
    variables: `params` and `batch_stats`, trees of NumPy arrays, float32.
    mean: per channel, of pixels in [0, 1], or None if not known.
    std: per channel, or None.
    image_size: side of the images in evaluation, in pixels, or None.
    eval_crop_fraction: of the resized image's side, or None.
    labels: names of the classes, in order, or None.
  """

  model: dict[str, Any]
  num_classes: int
  variables: dict[str, Any]
  mean: tuple[float, float, float] | None = None
  std: tuple[float, float, float] | None = None
  image_size: int | None = None
  eval_crop_fraction: float | None = None
  labels: tuple[str, ...] | None = None


def load(source: str, model: str | None = None) -> Weights:
  """Loads weights of a ConvMixer.

  Width, depth, patch and kernel follow from the shapes. The activation does
  not: it is in the header of files that `save` wrote and in the config.json
  beside timm's weights; else it is that of `model`; else, with a warning, ReLU
  for the shape of the released 768/32 with patch 7 and kernel 7, and GELU for
  all others.

  Args:
    source: see `read`.
    model: one of `variants.VARIANTS`, such as '768_32', or 'gelu' or 'relu'.

  Raises:
    UserError: see `read`; or the network is not `model`.
  """
  claimed = _claimed(model)
  loaded = read(source)
  network = {k: v for k, v in loaded.model.items() if v is not None}
  for name, value in claimed.items():
    if network.setdefault(name, value) != value:
      raise UserError(
        f'{source} has {name} = {network[name]}, not {value} as {model!r} has '
        'it; name the network it is of, or none'
      )
  if 'activation' not in network:
    network['activation'] = _likely_activation(network, source)
  return dataclasses.replace(loaded, model=network)


def read(source: str) -> Weights:
  """Reads weights as they are: without a word on it, `activation` is None.

  Args:
    source: `hf://owner/name[@revision]`; a safetensors file; a file of PyTorch
      (`.pth.tar`, `.pth`, `.pt`, `.bin`), with timm's names or the authors'; or
      a directory with `model.safetensors`; local, or in a bucket. Runs of ours
      are read by `training.initialize`.

  Raises:
    UserError: there is no such file or repository, it is damaged, or its
      tensors are not those of a ConvMixer (which are missing, surplus or
      misshapen).
  """
  with contextlib.ExitStack() as stack:
    return _read_file(_find_file(source, stack), source)


def _read_file(path, source):
  record = {}
  if path.endswith('.safetensors'):
    tensors, record = _read_safetensors(path)
  else:
    tensors = torch_files.read_state_dict(path)
  beside = os.path.join(os.path.dirname(path), hub.CONFIG)
  record = record or records.from_timm(beside)

  network, tensors = layouts.recognise(tensors, source)
  num_classes = network.pop('num_classes')
  network['activation'] = record.pop('activation', None)
  if len(record.get('labels', ())) != num_classes:
    record.pop('labels', None)
  return Weights(network, num_classes, layouts.from_timm(tensors), **record)


def save(weights: Weights, path: str) -> None:
  """Writes a safetensors file with timm's names, for timm and for `load`.

  What is known besides goes into the header. An existing file is replaced.

  Args:
    weights: of a network, as `load` gives them; `variables` may be arrays of
      JAX.
    path: of the file, which should end with `.safetensors`.

  Raises:
    UserError: it cannot be written.
  """
  record = {
    key: value
    for key in records.KEYS
    if (value := getattr(weights, key, weights.model.get(key))) is not None
  }
  try:
    content = safetensors.numpy.save(
      layouts.to_timm(weights.variables), records.to_header(record)
    )
    files.write(epath.Path(path), content)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(
      f'{path} cannot be written ({error}); choose another place'
    ) from error


def _claimed(model):
  """Returns the fields that `model` names."""
  if model is None:
    return {}
  if model in ACTIVATIONS:
    return {'activation': model}
  return choose_variant(VARIANTS, model, 'ConvMixer')


def _find_file(source, stack):
  """Returns the path of a local file, which may last as long as `stack`."""
  if source.startswith(hub.PREFIX):
    return hub.download(source)
  path = epath.Path(os.path.expanduser(source))
  if '://' in source:
    path = files.absolute_path(source)
    files.check_access(path)
  if path.is_dir():
    path = path / 'model.safetensors'
  if not path.exists() or path.is_dir():
    raise UserError(
      f'{source}: there is no file {path}; give a file of weights or '
      'hf://owner/name'
    )
  if files.is_in_bucket(path):
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    config = path.with_name(hub.CONFIG)
    if config.exists():
      files.download(config, directory)
    return files.download(path, directory)
  return str(path)


def _read_safetensors(path):
  try:
    with safetensors.safe_open(path, framework='np') as file:
      tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
      header = file.metadata() or {}
  except (OSError, safetensors.SafetensorError, TypeError) as error:
    raise UserError(
      f'{path} is damaged or no safetensors file ({error}); fetch it again'
    ) from error
  return tensors, records.from_header(header, path)


def _likely_activation(network, source):
  released = VARIANTS['768_32']
  likely = 'relu' if network | {'activation': 'relu'} == released else 'gelu'
  logging.warning(
    '%s does not tell its activation; taken for %s, as networks of this shape '
    'have it; --model=NAME or --model=gelu or relu would tell',
    source,
    likely,
  )
  return likely
