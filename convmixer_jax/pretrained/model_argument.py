"""Parses `--model`, which completes weights: a network, variant or fields."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from convmixer_jax.config import choose_variant, nearest
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS, RELEASED, VARIANTS
from convmixer_jax.models.released import Released


class ModelArgument(NamedTuple):
  """What `--model` says of weights.

  Attributes:
    network: as in `config.model.name`; None if it is not named.
    fields: of the network, those that are given.
    variant: a key of `VARIANTS`; None if none is named.
    weights: released ones, if they are named by their tag.
  """

  network: str | None = None
  fields: Mapping[str, Any] = {}
  variant: str | None = None
  weights: Released | None = None


def parse_model(model: str | None) -> ModelArgument:
  """Returns what `model` names.

  Args:
    model: see `load`; None for no network and no fields.

  Raises:
    UserError: it is not a network, a variant, a tag or fields.
  """
  if model is None:
    return ModelArgument()
  for architecture in MODELS.values():
    for key, field in architecture.fields.items():
      if model in field.choices and field.role == 'network':
        return ModelArgument(fields={key: model})
  if model in MODELS or ':' in model:
    return ModelArgument(model)
  if '=' in model:
    return ModelArgument(
      fields=dict(_field_of(part, model) for part in model.split(','))
    )
  weights = None
  if model in RELEASED:
    _, weights = RELEASED[model]
    model = weights.variant
  fields = dict(choose_variant(VARIANTS, model, 'the package'))
  name = fields.pop('name')
  network = MODELS[name].names('network')
  fields = {key: value for key, value in fields.items() if key in network}
  return ModelArgument(name, fields, model, weights)


def _field_of(part, model):
  """Returns name and value of a part such as 'heads=3' of --model."""
  name, _, value = part.partition('=')
  fields = {
    key: field
    for architecture in MODELS.values()
    for key, field in architecture.fields.items()
    if field.role == 'network'
  }
  if name not in fields:
    raise UserError(
      f'--model={model}: {name!r} is not a field of a network; did you mean '
      f'{nearest(name, fields)!r}?'
    )
  if not isinstance(fields[name].default, int):
    return name, value
  if not value.isdecimal():
    raise UserError(
      f'--model: {model!r} has no whole number for {name}; give one, such as '
      f'{name}={fields[name].default}'
    )
  return name, int(value)
