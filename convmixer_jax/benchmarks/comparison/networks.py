"""The networks to compare, by the names of their variants."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from convmixer_jax.benchmarks.comparison.paper import PAPER
from convmixer_jax.config import ImageSize, height_width, nearest
from convmixer_jax.errors import UserError
from convmixer_jax.models import (
  MODELS,
  Architecture,
  create_model,
  find_architecture,
  model_config,
)
from convmixer_jax.models.released import Released

NUM_CLASSES = 1000
_GROUPS = ('all', 'paper')


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of the comparison.

  Attributes:
    name: that of the variant, such as 'deit_b'.
    architecture: its name, as in `config.model.name`.
    fields: those of the variant.
  """

  name: str
  architecture: str
  fields: Mapping[str, Any]

  @property
  def table(self) -> Architecture:
    """The architecture itself."""
    return find_architecture(self.architecture)

  @property
  def timm_name(self) -> str | None:
    """The name in timm; None if it has none there."""
    state_dict = self.table.state_dict
    names = state_dict.timm_names if state_dict else {}
    return next((timm for timm, key in names.items() if key == self.name), None)

  @property
  def released(self) -> list[Released]:
    """Its released weights; the first are the usual ones."""
    found = self.table.released.values()
    return [weights for weights in found if weights.variant == self.name]

  @property
  def image_size(self) -> int:
    """Side of the images, square ones, that the published network is for."""
    height, _ = height_width(
      self.table.published_input(self.name)['image_size']
    )
    return height

  def create(
    self, image_size: ImageSize, dtype: str = 'float32', **fields: Any
  ) -> nn.Module:
    """Creates the network for ImageNet's classes.

    Args:
      image_size: of the images.
      dtype: name of the compute dtype.
      **fields: to change, such as `scan`.
    """
    config = model_config(self.architecture, **{**self.fields, **fields})
    return create_model(config, NUM_CLASSES, dtype, image_size)


def _list_all() -> dict[str, Network]:
  """Returns all networks of the package: first the paper's, in its order."""
  found = {
    variant: Network(variant, name, fields)
    for name, architecture in MODELS.items()
    for variant, fields in architecture.variants.items()
  }
  first = {name: found[name] for name in PAPER if name in found}
  return first | found


NETWORKS = _list_all()


def choose_networks(names: Sequence[str]) -> list[Network]:
  """Returns networks, each once: the paper's first, in its order.

  Args:
    names: each 'all', 'paper', a variant such as 'deit_b', also as
      'vit:deit_b', an architecture for all of its variants, a name of timm's,
      or MODULE:ATTRIBUTE for a network of the user's.

  Raises:
    UserError: a name is unknown.
  """
  chosen: dict[str, Network] = {}
  for name in names:
    for network in _find(name):
      chosen.setdefault(network.name, network)
  if not chosen:
    raise UserError(
      f'--models is empty; give {", ".join(_GROUPS)} or names with commas: '
      f'{", ".join(NETWORKS)}'
    )
  return sorted(
    chosen.values(),
    key=lambda network: [*PAPER, network.name].index(network.name),
  )


def _find(name):
  """Returns the networks that one name stands for."""
  if name in _GROUPS:
    return [
      network
      for network in NETWORKS.values()
      if name == 'all' or network.name in PAPER
    ]
  if name in MODELS:
    return [n for n in NETWORKS.values() if n.architecture == name]
  for network in NETWORKS.values():
    full_name = f'{network.architecture}:{network.name}'
    if name in (network.name, full_name, network.timm_name):
      return [network]
  if ':' in name and name.partition(':')[0] not in MODELS:
    variants = find_architecture(name).variants or {name: {}}
    return [Network(key, name, fields) for key, fields in variants.items()]
  valid = [*_GROUPS, *MODELS, *NETWORKS]
  raise UserError(
    f'--models: {name!r} is unknown; did you mean {nearest(name, valid)}? '
    f'There are {", ".join(valid)}, names of timm, and MODULE:ATTRIBUTE for a '
    'network of your own'
  )
