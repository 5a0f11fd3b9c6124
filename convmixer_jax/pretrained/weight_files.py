"""Reads files of weights (timm's, the authors', our own) and writes our own."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from convmixer_jax import files
from convmixer_jax.errors import UserError, one_line
from convmixer_jax.models import (
  MODELS,
  VARIANTS,
  find_architecture,
  is_known,
)
from convmixer_jax.models.released import Released
from convmixer_jax.models.tensors import without_wrappers
from convmixer_jax.pretrained import hub, metadata, torch_files
from convmixer_jax.pretrained.check_values import by_name, check_values
from convmixer_jax.pretrained.release_names import recognise
from convmixer_jax.pretrained.source import FileSource, HubSource
from convmixer_jax.pretrained.trained_model import TrainedModel


class Contents(NamedTuple):
  """What a file of weights contains.

  Attributes:
    network: name of the network that the tensors are of.
    fields: of these, those that the file or the tensors' shapes contain.
    num_classes: outputs of the head, K.
    variables: `params` and `batch_stats`, trees of NumPy arrays, float32.
    known: some of `metadata.INPUT_KEYS`; `class_names` and `thresholds` are
      `[K]`.
    weights: the released ones that they are, if the name says so and the
      fields are those of that network.
  """

  network: str
  fields: dict[str, Any]
  num_classes: int
  variables: dict[str, Any]
  known: dict[str, Any]
  weights: Released | None = None


def read(
  source: HubSource | FileSource, name: str, network: str | None = None
) -> Contents:
  """Reads a safetensors file or one of PyTorch (`.pth.tar`, `.pth`, ...).

  The tensors have timm's names or the authors'. Which network they are of, and
  most of its fields, follows from names and shapes; other fields are in the
  header of files that `save` wrote, or follow from timm's config.json beside
  the file.

  Args:
    source: of the file, local or in a bucket, or of a repository.
    name: of the source, for errors.
    network: name of a network to look for besides those of the package.

  Raises:
    UserError: the repository cannot be read, the file is damaged, or its
      tensors are not those of a network that is known (which are missing,
      surplus or misshapen), or have values that no trained network has.
  """
  with contextlib.ExitStack() as stack:
    path = _fetch(source, stack)
    return _read_local(path, name, network, recognise(source))


def save(trained: TrainedModel, path: str) -> None:
  """Writes a safetensors file with timm's names, for timm and for `load`.

  An existing file is replaced.

  Args:
    trained: the network.
    path: of the file, which should end with `.safetensors`.

  Raises:
    UserError: it cannot be written, or see `to_safetensors`.
  """
  content = to_safetensors(trained, path)
  try:
    files.write(epath.Path(path), content, is_shared=True)
  except OSError as error:
    raise UserError(
      f'{path} cannot be written ({error}); choose another place'
    ) from error


def to_safetensors(trained: TrainedModel, path: str) -> bytes:
  """Returns the content of a safetensors file with timm's names.

  What is known besides the weights is in its header; what was assumed is not.

  Args:
    trained: the network.
    path: of the file, for errors.

  Raises:
    UserError: the network has no names in files.
  """
  state_dict = find_architecture(trained.network).state_dict
  if state_dict is None:
    raise UserError(
      f'{path} cannot be written: {trained.network!r} has no state_dict for '
      "other people's files; convert it to a directory instead"
    )
  known = {
    key: value
    for key in metadata.INPUT_KEYS
    if key not in trained.assumed
    and (value := getattr(trained, key)) not in (None, False)
  }
  header = metadata.to_header(
    {'network': trained.network, 'fields': trained.network_fields(), **known}
  )
  other = () if trained.channels == 3 else (trained.channels,)
  try:
    tensors = state_dict.to_timm(trained.variables, *other)
    return _with_sorted_metadata(safetensors.numpy.save(tensors, header))
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} cannot be written ({error}); choose other weights'
    ) from error


def _with_sorted_metadata(content: bytes) -> bytes:
  """Returns a safetensors file whose bytes depend on its values alone.

  The library writes the metadata in the header in a random order.
  """
  start = 8 + int.from_bytes(content[:8], 'little')
  header = json.loads(content[8:start])
  header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
  text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
  text += b' ' * (-len(text) % 8)
  return len(text).to_bytes(8, 'little') + text + content[start:]


def _fetch(source, stack):
  """Returns the path of a local file, which may last as long as `stack`."""
  if isinstance(source, HubSource):
    return hub.download(source)
  path = source.path
  if not files.is_in_bucket(path):
    return str(path)
  directory = stack.enter_context(tempfile.TemporaryDirectory())
  config = path.with_name(hub.CONFIG)
  if config.exists():
    files.download(config, directory)
  return files.download(path, directory)


def _read_local(path, name, network, recognised):
  found = {}
  if path.endswith('.safetensors') or _is_safetensors(path):
    tensors, found = _read_safetensors(path)
  else:
    tensors = torch_files.read_state_dict(path)
  beside = os.path.join(os.path.dirname(path), hub.CONFIG)
  found = found or metadata.from_timm(beside)

  network = infer_architecture(tensors, found.get('network'), network)
  architecture = find_architecture(network)
  saved = tensors
  with np.errstate(over='ignore'):  # of float64, which check_values reports
    fields, tensors = architecture.state_dict.infer_fields(saved, name)
  check_values(saved, name)
  num_classes = fields.pop('num_classes')
  recorded = found.get('fields', {})
  for key in architecture.names('network'):
    if key not in fields and recorded.get(key) is not None:
      fields[key] = recorded[key]
  known = {key: found[key] for key in metadata.INPUT_KEYS if key in found}
  for key in ('class_names', 'thresholds'):
    if len(known.get(key, ())) != num_classes:
      known.pop(key, None)
  known.setdefault(
    'image_size', architecture.state_dict.image_size(fields, tensors)
  )
  weights = None
  if recognised is not None and recognised.network == network:
    weights = recognised.weights
    published = VARIANTS[weights.variant]
    if any(fields[key] != published.get(key, fields[key]) for key in fields):
      weights = None  # it only has the name
  variables = architecture.state_dict.from_timm(tensors)
  check_values(by_name(variables), name)
  return Contents(network, fields, num_classes, variables, known, weights)


def _is_safetensors(path):
  """Whether a file of any name begins as safetensors do: length, then JSON."""
  try:
    with open(path, 'rb') as file:
      start = file.read(9)
    size = os.path.getsize(path)
  except OSError:  # which reading it reports
    return False
  length = int.from_bytes(start[:8], 'little')
  return start[8:] == b'{' and length <= size - 8


def _read_safetensors(path):
  try:
    with safetensors.safe_open(path, framework='np') as file:
      tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
      header = file.metadata() or {}
  except (OSError, safetensors.SafetensorError, TypeError) as error:
    raise UserError(
      f'{path} is damaged or not a safetensors file ({one_line(error)}); fetch '
      'it again'
    ) from error
  return tensors, metadata.from_header(header, path)


def infer_architecture(
  tensors: Mapping[str, np.ndarray], recorded: str | None, asked: str | None
) -> str:
  """Returns the name of the network that most tensors have the names of.

  Args:
    tensors: of the file.
    recorded: the name in the file. It counts only for networks that are
      imported already: reading a file must not import modules.
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
