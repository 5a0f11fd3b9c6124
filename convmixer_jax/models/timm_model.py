"""How timm creates the same network."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TimmModel(NamedTuple):
  """A network of timm's.

  Attributes:
    imports: a line of Python that imports what `creation` needs.
    creation: an expression that creates the network, without weights.
    first_conv: its name of the layer that sees the images.
    architecture: its registered name, for `timm.create_model`; None if it has
      the module, but no name for these fields.
    model_args: for `create_model`, besides `num_classes`.
    classifier: its name of the layer that a new data set replaces, or names.
  """

  imports: str
  creation: str
  first_conv: str
  architecture: str | None = None
  model_args: Mapping[str, Any] = {}
  classifier: str | tuple[str, ...] = 'head'
