"""Weights in and out: timm's, the authors', and files of our own.

from convmixer_jax import models, weights
loaded = weights.load('hf://timm/convmixer_768_32.in1k')
model = loaded.create_model()
logits = model.apply(loaded.variables, images, train=False)
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from etils import epath
from flax import linen as nn

from convmixer_jax import files
from convmixer_jax.errors import UserError
from convmixer_jax.models import (
  DEFAULT,
  MODELS,
  find_architecture,
  is_known,
)
from convmixer_jax.models.tensors import without_wrappers
from convmixer_jax.pretrained import claims, hub, metadata, torch_files


@dataclasses.dataclass(frozen=True)
class Weights:
  """A trained network, and what is known of its images.

  Attributes:
    model: the fields that decide what the network computes, as in
      `config.model`.
    num_classes: outputs of the head.
    variables: `params` and `batch_stats`, trees of NumPy arrays, float32.
    mean: per channel, of pixels in [0, 1], or None if not known.
    std: per channel, or None.
    image_size: side of the images in evaluation, in pixels, or None.
    eval_crop_fraction: of the resized image's side, or None.
    labels: names of the classes, in order, or None.
    network: its name, as in `config.model.name`.
  """

  model: dict[str, Any]
  num_classes: int
  variables: dict[str, Any]
  mean: tuple[float, float, float] | None = None
  std: tuple[float, float, float] | None = None
  image_size: int | None = None
  eval_crop_fraction: float | None = None
  labels: tuple[str, ...] | None = None
  network: str = DEFAULT

  def create_model(self) -> nn.Module:
    """Returns the network that the variables are of, in float32."""
    module = find_architecture(self.network).module
    return module(**self.model, num_classes=self.num_classes)


def load(source: str, model: str | None = None) -> Weights:
  """Loads weights of a network.

  Which network it is, and most of its fields, follow from names and shapes.
  Others, such as an activation or a number of heads, do not: they are in the
  header of files that `save` wrote, or follow from the config.json beside
  timm's weights; else they are those of `model`; else, with a warning, those of
  published networks of the same shapes.

  Args:
    source: see `read`.
    model: one of `models.VARIANTS`, such as '768_32', a network, as in
      `config.model.name`, what a field may be that has choices, such as
      'relu', or fields with their values, such as 'heads=3'.

  Raises:
    UserError: see `read`; or the network is not `model`.
  """
  network, claimed = claims.parse(model)
  loaded = read(source, network)
  fields = {k: v for k, v in loaded.model.items() if v is not None}
  if network not in (None, loaded.network) or claimed.keys() - loaded.model:
    raise UserError(
      f'{source} has the tensors of {loaded.network!r}, which {model!r} does '
      'not describe; name the network it is of, or none'
    )
  for name, value in claimed.items():
    if fields.setdefault(name, value) != value:
      raise UserError(
        f'{source} has {name} = {fields[name]}, not {value} as {model!r} has '
        'it; name the network it is of, or none'
      )
  if missing := loaded.model.keys() - fields.keys():
    fields |= _assume(loaded.network, fields, missing, source)
  return dataclasses.replace(loaded, model=fields)


def read(source: str, network: str | None = None) -> Weights:
  """Reads weights as they are: a field that they do not contain is None.

  Args:
    source: `hf://owner/name[@revision]`; a safetensors file; a file of PyTorch
      (`.pth.tar`, `.pth`, `.pt`, `.bin`), with timm's names or the authors'; or
      a directory with `model.safetensors`; local, or in a bucket. Runs of ours
      are read by `training.initialize`.
    network: a network to look for besides those of the package, by name.

  Raises:
    UserError: there is no such file or repository, it is damaged, or its
      tensors are not those of a network that is known (which are missing,
      surplus or misshapen).
  """
  with contextlib.ExitStack() as stack:
    return _read_file(_find_file(source, stack), source, network)


def _read_file(path, source, network):
  record = {}
  if path.endswith('.safetensors'):
    tensors, record = _read_safetensors(path)
  else:
    tensors = torch_files.read_state_dict(path)
  beside = os.path.join(os.path.dirname(path), hub.CONFIG)
  record = record or metadata.from_timm(beside)

  name = _find_network(tensors, record.pop('network', None), network)
  architecture = find_architecture(name)
  fields, tensors = architecture.state_dict.infer_fields(tensors, source)
  num_classes = fields.pop('num_classes')
  recorded = {
    'activation': record.pop('activation', None),
    **record.pop('fields', {}),
  }
  for key in architecture.names('network'):
    fields.setdefault(key, recorded.get(key))
  if len(record.get('labels', ())) != num_classes:
    record.pop('labels', None)
  record.setdefault(
    'image_size', architecture.state_dict.image_size(fields, tensors)
  )
  variables = architecture.state_dict.from_timm(tensors)
  return Weights(fields, num_classes, variables, **record, network=name)


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
  state_dict = find_architecture(weights.network).state_dict
  if state_dict is None:
    raise UserError(
      f'{path} cannot be written: {weights.network!r} has no state_dict for '
      "other people's files; name a directory instead"
    )
  record = {
    key: value
    for key in metadata.KEYS
    if (value := getattr(weights, key, None)) is not None
  }
  record['fields'] = dict(weights.model)
  try:
    content = safetensors.numpy.save(
      state_dict.to_timm(weights.variables), metadata.to_header(record)
    )
    files.write(epath.Path(path), content)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(
      f'{path} cannot be written ({error}); choose another place'
    ) from error


def _find_network(
  tensors: Mapping[str, np.ndarray], recorded: str | None, asked: str | None
) -> str:
  """Returns the name of the network that most tensors have the names of.

  Args:
    tensors: of the file.
    recorded: the name in the file. It counts only for networks that are
      known: reading a file must not import modules.
    asked: a network to look for besides those of the package.
  """
  candidates = dict(MODELS)
  if asked is not None:
    candidates = {asked: find_architecture(asked)} | candidates
  candidates = {k: v for k, v in candidates.items() if v.state_dict}
  if recorded in candidates or (recorded and is_known(recorded)):
    return recorded
  names = [without_wrappers(name) for name in tensors]

  def matching(name):
    return sum(map(candidates[name].state_dict.matches, names))

  return max(candidates, key=matching)


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
  return tensors, metadata.from_header(header, path)


def _assume(name, fields, missing, source):
  """Returns values for the fields that are missing, with a warning."""
  assumed = find_architecture(name).state_dict.assume(fields)
  if untold := sorted(missing - assumed.keys()):
    raise UserError(
      f'{source} does not contain its {", ".join(untold)}; give '
      f'--model={",".join(f"{name}=VALUE" for name in untold)}, or a variant '
      'that has them, --model=NAME'
    )
  values = ', '.join(f'{key} {assumed[key]}' for key in sorted(missing))
  logging.warning(
    '%s does not contain its %s; assumed is %s, as published networks of this '
    'shape have it; name another by --model=NAME (a variant, or gelu or relu)',
    source,
    ', '.join(sorted(missing)),
    values,
  )
  return assumed
