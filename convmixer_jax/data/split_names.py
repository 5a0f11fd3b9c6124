"""Finds the split that a name stands for, in sets that are not prepared.

A set that has `train` alone, as a folder of one level has, has no held-out
images of its own. There `train` without a slice is 90 % of each class, and
`validation` and `test` are the others; `all` is everything, and slices of
`train` cut all images. Where there is only one of `validation` and `test`, it
stands for both.
"""

from collections.abc import Iterable, Sequence

from convmixer_jax.data import slices
from convmixer_jax.errors import UserError
from convmixer_jax.notes import note

# Names in lower case, and the split that each stands for.
STANDARD = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validation': 'validation',
  'test': 'test',
  'testing': 'test',
}
_HELD_OUT = '90%'  # where a set has no held-out split of its own
_OTHER = {'test': 'validation', 'validation': 'test'}


def resolve(where: str, splits: Sequence[str], text: str) -> list[slices.Part]:
  """Returns the terms of a split, each with the name of one that exists.

  Args:
    where: the set, for notes and errors.
    splits: names of its splits.
    text: the split, as it was given.

  Raises:
    UserError: there is no such split, or it is not in TFDS's syntax.
  """
  parts = []
  for part in slices.parse(text):
    is_all = part.split.lower() == 'all' and 'all' not in splits
    if is_all and (not part.is_sliced or len(splits) == 1):
      parts += [part._replace(split=name, is_sliced=True) for name in splits]
    else:
      parts.append(_resolve_part(where, splits, part))
  return parts


def held_out_split(splits: Iterable[str]) -> str | None:
  """Returns the split that is for evaluation, None if there is none."""
  standard = _by_standard_name(splits)
  return standard.get('validation') or standard.get('test')


def _resolve_part(where, splits, part):
  """Returns a term of a split with the name of a split that exists."""
  standard = _by_standard_name(splits)
  wanted = STANDARD.get(part.split.lower())
  is_alone = len(splits) == 1 and 'train' in standard
  if is_alone and not part.is_sliced and wanted:
    note(
      f'{where} has no splits: train is 90 % of the images of each class '
      '(train[:90%]), validation the others (train[90%:])',
      f'splits of {where}',
    )
    limit = {'stop' if wanted == 'train' else 'start': _HELD_OUT}
    return slices.Part(standard['train'], is_sliced=True, **limit)
  if part.split in splits:
    return part
  if wanted in standard:
    return part._replace(split=standard[wanted])
  if other := standard.get(_OTHER.get(wanted, '')):
    note(f'{where} has no split {wanted}; it is evaluated on {other}')
    return part._replace(split=other)
  raise UserError(
    f'{where} has no split {part.split!r}; it has {", ".join(splits)}, and '
    "slices of them such as 'train[:90%]'"
  )


def _by_standard_name(splits):
  """Returns the first split of each standard name."""
  found: dict[str, str] = {}
  for name in splits:
    if standard := STANDARD.get(name.lower()):
      found.setdefault(standard, name)
  return found
