"""Recognises released weights by the name of their repository or file.

hf://timm/TAG                        of the Hugging Face Hub
TAG/model.safetensors                a copy of that, by its directory
models--timm--TAG/snapshots/COMMIT/  the same in the hub's cache
TAG.safetensors, TAG.pth, ...        a file that is called so
deit_base_patch16_224-b5f2ef4d.pth   as the authors called it
"""

from typing import NamedTuple

from convmixer_jax.models import RELEASED
from convmixer_jax.models.released import Released
from convmixer_jax.pretrained.source import FileSource, HubSource

_OWNER = 'timm'
_SUFFIXES = ('.safetensors', '.pth.tar', '.pth', '.pt', '.bin')
_CACHED = f'models--{_OWNER}--'
_FILES = {
  file: tag for tag, (_, weights) in RELEASED.items() for file in weights.files
}


class Recognised(NamedTuple):
  """Released weights.

  Attributes:
    network: its name, as in `config.model.name`.
    weights: what is known of them.
  """

  network: str
  weights: Released


def recognise(source: HubSource | FileSource) -> Recognised | None:
  """Returns the released weights that a source is by its name, if it is any.

  What the file contains is not looked at.

  Args:
    source: of weights.
  """
  for name in _names(source):
    tag = _FILES.get(name, name)
    if tag in RELEASED:
      return Recognised(*RELEASED[tag])
  return None


def _names(source):
  if isinstance(source, HubSource):
    owner, _, name = source.repository.partition('/')
    return [name] if owner == _OWNER else []
  path = source.path
  names = [path.name]
  for suffix in _SUFFIXES:
    if path.name.endswith(suffix):
      names.append(path.name.removesuffix(suffix))
      break
  names.append(path.parent.name)
  return names + [
    part.removeprefix(_CACHED)
    for part in path.parts
    if part.startswith(_CACHED)
  ]
