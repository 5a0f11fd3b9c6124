"""Names of the pictures that a command writes for image files."""

import os
import re
from collections.abc import Sequence

from convmixer_jax.errors import UserError

_LENGTH = 80  # characters


def choose(paths: Sequence[str]) -> list[str]:
  """Returns the name of a PNG file for each image file, all different.

  It is that of the image file, as far as its characters are safe in the names
  of files everywhere; a second one of the same name, in upper or lower case,
  gets a number.
  """
  names, taken = [], set()
  for path in paths:
    stem = os.path.splitext(os.path.basename(path))[0]
    text = os.fsencode(stem).decode('utf-8', 'backslashreplace')
    stem = re.sub(r'[^\w.,()+=@ -]', '_', text)[:_LENGTH].strip() or '_'
    name, number = stem, 1
    while name.casefold() in taken:
      number += 1
      name = f'{stem}-{number}'
    taken.add(name.casefold())
    names.append(f'{name}.png')
  return names


def check_not_inside(directory: str, paths: Sequence[str]) -> None:
  """Checks that no image file is in the directory that is written to.

  It could be overwritten, and what is written be read as an image next time.

  Raises:
    UserError: one is.
  """
  if '://' in directory:
    return
  output = os.path.realpath(os.path.expanduser(directory))
  for path in paths:
    if output == os.path.dirname(os.path.realpath(path)):
      from convmixer_jax.data.image_files import display_name

      raise UserError(
        f'--output={directory} has the picture {display_name(path)} in it; '
        'give another directory'
      )
