"""Checks the parts of an `Architecture` of the user's, besides its module."""

from collections.abc import Mapping
from typing import get_args, get_type_hints

from convmixer_jax.models.architecture import Architecture, StateDictMap
from convmixer_jax.models.fields import Field
from convmixer_jax.models.released import IMAGENET_INPUT, Released

_ROLES = get_args(get_type_hints(Field)['role'])
_FUNCTIONS = ('inference', 'pictures', 'resize', 'to_onnx')
_MAPPINGS = ('variants', 'portable')  # of mappings


def find_problem(architecture: Architecture) -> str | None:
  """Returns what is wrong with fields or optional parts, and what would do.

  Args:
    architecture: of which `fields` is a mapping of names and `Field`s.

  Returns:
    The end of an error's line, None if nothing is wrong.
  """
  for check in (_check_fields, _check_names, _check_mappings, _check_functions):
    if problem := check(architecture):
      return problem
  return None


def _check_fields(architecture):
  for key, field in architecture.fields.items():
    if field.role not in _ROLES:
      return (
        f'its field {key!r} has role {field.role!r}; give one of '
        f'{", ".join(_ROLES)}'
      )
    if not isinstance(field.groups, str):
      return f'groups of its field {key!r} is {field.groups!r}; give a string'
    is_number = type(field.default) is int and field.default >= 0
    if field.groups and not is_number:
      return (
        f'its field {key!r} has groups and the default {field.default!r}; '
        'give a whole number of at least 0'
      )
  return None


def _check_names(architecture):
  head = architecture.head
  if not isinstance(head, str):
    return f'its head is {head!r}; give the name of a module'
  before = architecture.before_blocks
  for part, names in (
    ('stacked', architecture.stacked),
    ('blocks', architecture.blocks),
    ('before_blocks', () if before is None else before),
  ):
    if not isinstance(names, (tuple, list)) or not all(
      isinstance(name, str) for name in names
    ):
      return (
        f'its {part} is {names!r}; give a tuple of names of modules, such as '
        "('blocks',)"
      )
  stem = architecture.stem
  if stem is not None and not (
    isinstance(stem, (tuple, list))
    and all(isinstance(name, str) for name in stem)
  ):
    return (
      f'its stem is {stem!r}; give the path of a kernel, such as '
      "('patch_embedding', 'kernel'), or None"
    )
  return None


def _check_mappings(architecture):
  for part in _MAPPINGS:
    value = getattr(architecture, part)
    if not _is_mapping(value) or not all(map(_is_mapping, value.values())):
      return f'its {part} is {value!r}; give a dict of dicts'
  for part in ('variants', 'portable'):
    for name, fields in getattr(architecture, part).items():
      if unknown := fields.keys() - architecture.fields.keys():
        return (
          f'{part}[{name!r}] has {min(unknown)!r}, which is not among its '
          'fields; leave it out'
        )
  if missing := {'cpu', 'default'} - architecture.portable.keys():
    return f'its portable has no {min(missing)!r}; add it, such as {{}}'
  released = architecture.released
  if not _is_mapping(released) or not all(
    isinstance(weights, Released) for weights in released.values()
  ):
    return f'its released is {released!r}; give a dict of Released'
  given = architecture.default_input
  if not _is_mapping(given) or given.keys() - IMAGENET_INPUT.keys():
    return (
      f'its default_input is {given!r}; give a dict with some of '
      f'{", ".join(IMAGENET_INPUT)}'
    )
  return None


def _check_functions(architecture):
  for part in _FUNCTIONS:
    value = getattr(architecture, part)
    if value is not None and not callable(value):
      return f'its {part} is {value!r}; give a function or None'
  state_dict = architecture.state_dict
  if state_dict is None:
    return None
  if not isinstance(state_dict, StateDictMap):
    return f'its state_dict is {state_dict!r}; give a StateDictMap or None'
  names = 'timm_names'
  functions = [part for part in StateDictMap._fields if part != names]
  for part in functions:
    value = getattr(state_dict, part)
    may_be_none = StateDictMap._field_defaults.get(part, part) is None
    if not callable(value) and not (value is None and may_be_none):
      return f'state_dict.{part} is {value!r}; give a function'
  if not _is_mapping(state_dict.timm_names):
    return f'state_dict.{names} is {state_dict.timm_names!r}; give a dict'
  return None


def _is_mapping(value):
  return isinstance(value, Mapping) and all(isinstance(k, str) for k in value)
