"""`thresholds.json`: from which probability a network gives a class.

Only networks with several labels an image have them. They belong to the weights
of one checkpoint, so a run has them by step.
"""

import json
from typing import Any, NamedTuple

from etils import epath

from convmixer_jax.checkpoints.workdir import write_whole
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json

FILE = 'thresholds.json'


class Thresholds(NamedTuple):
  """Thresholds of K classes.

  Attributes:
    values: `[K]`, probabilities.
    chosen_on: the data set and split they were chosen on, in words.
  """

  values: tuple[float, ...]
  chosen_on: str


def read(workdir: epath.Path, step: int, num_classes: int) -> Thresholds | None:
  """Returns the thresholds of a checkpoint; None if none were chosen.

  Raises:
    UserError: the file is damaged, or of another network.
  """
  found = _read_all(workdir).get(str(step))
  if found is not None and len(found.values) != num_classes:
    raise UserError(
      f'{workdir / FILE} has {len(found.values)} thresholds for step {step}, '
      f'and the network {num_classes} classes; remove it, and choose them again'
    )
  return found


def write(workdir: epath.Path, step: int, thresholds: Thresholds) -> None:
  """Stores the thresholds of a checkpoint beside those of others.

  Raises:
    UserError: the file that is there is damaged, or it cannot be written.
  """
  every = _read_all(workdir) | {str(step): thresholds}
  content = {key: every[key]._asdict() for key in sorted(every, key=int)}
  write_whole(workdir / FILE, json.dumps(content, indent=2) + '\n')


def check_values(values: Any) -> tuple[float, ...]:
  """Returns thresholds that were read from a file.

  Raises:
    ValueError: they are something else.
  """
  if not isinstance(values, (list, tuple)) or not all(
    type(value) in (int, float) and 0 <= value <= 1 for value in values
  ):
    raise ValueError('thresholds are not probabilities, from 0 to 1')
  return tuple(map(float, values))


def _read_all(workdir):
  path = workdir / FILE
  if not path.exists():
    return {}
  try:
    return {
      str(int(step)): Thresholds(
        check_values(entry['values']), str(entry['chosen_on'])
      )
      for step, entry in parse_json(path.read_text()).items()
    }
  except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
    raise UserError(
      f'{path} is damaged ({type(error).__name__}: {error}); remove it, and '
      'choose thresholds again with: convmixer evaluate --choose_thresholds'
    ) from error
