"""The fields of a network: its keys in `config.model`, and their checks."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn

from convmixer_jax.config import Range, at_least, check_value, one_of


@dataclasses.dataclass(frozen=True)
class Field:
  """A field of a network: its key in `config.model`.

  Attributes:
    default: of the config. None stands for a string that need not be given.
    text: what it is, in one line.
    minimum: of a number, or of each of several, or None.
    below: what a number has to be smaller than, or None.
    choices: what a string may be; empty for any.
    role: 'network': it decides what the trained network computes, as its width
      does; 'training': it only changes how the network is trained; 'compute':
      neither, so that a run may resume with another value.
    cpu_only: values that only CPUs can compute with.
    gpu_only: values that only NVIDIA GPUs can compute with.
    groups: of a number of images that belong together in training, what they
      are, such as 'BatchNorm groups'; a batch has to divide into them. 0 of
      them stands for the whole batch.
  """

  default: Any
  text: str
  minimum: float | None = None
  below: float | None = None
  choices: tuple[str, ...] = ()
  role: Literal['network', 'training', 'compute'] = 'network'
  cpu_only: tuple[str, ...] = ()
  gpu_only: tuple[str, ...] = ()
  groups: str = ''

  @property
  def ranges(self) -> tuple[Range, ...]:
    """What values of the type of the default have to be."""
    if self.choices:
      optional = (None,) if self.default is None else ()
      return (one_of(*self.choices, *optional),)
    if self.minimum is None:
      return ()
    below = math.inf if self.below is None else self.below
    allowed = at_least(self.minimum, below)
    if isinstance(self.default, tuple):
      return (
        Range(
          f'{allowed.text}, each',
          lambda values: all(map(allowed.admits, values)),
        ),
      )
    return (allowed,)

  def check(self, key: str, value: Any) -> None:
    """Raises UserError, with the key, if `value` is out of range."""
    check_value(key, value, self.default, self.ranges)


NUM_CLASSES = Field(1000, 'outputs of the head', minimum=1)


def check_fields(fields: Mapping[str, Field], model: nn.Module) -> None:
  """Checks a network's fields and `num_classes`, when it is constructed.

  Raises:
    UserError: a value is out of range.
  """
  for name, field in fields.items():
    field.check(f'config.model.{name}', getattr(model, name))
  NUM_CLASSES.check('num_classes', model.num_classes)
