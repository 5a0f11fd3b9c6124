"""Parses `--model`, which completes weights: a network, variant or fields."""

import difflib
from typing import Any

from convmixer_jax.config import choose_variant
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS, VARIANTS


def parse_model(model: str | None) -> tuple[str | None, dict[str, Any]]:
  """Returns the network, or None, and the fields that `model` names.

  Args:
    model: see `load`; None for no network and no fields.

  Raises:
    UserError: it is not a network, a variant or fields.
  """
  if model is None:
    return None, {}
  for architecture in MODELS.values():
    for key, field in architecture.fields.items():
      if model in field.choices and field.role == 'network':
        return None, {key: model}
  if model in MODELS or ':' in model:
    return model, {}
  if '=' in model:
    return None, dict(_field_of(part, model) for part in model.split(','))
  fields = dict(choose_variant(VARIANTS, model, 'the package'))
  return fields.pop('name'), fields


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
    (nearest,) = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)
    raise UserError(
      f'--model={model}: {name!r} is not a field of a network; did you mean '
      f'{nearest!r}?'
    )
  if not isinstance(fields[name].default, int):
    return name, value
  if not value.isdecimal():
    raise UserError(
      f'--model: {model!r} has no whole number for {name}; give one, such as '
      f'{name}={fields[name].default}'
    )
  return name, int(value)
