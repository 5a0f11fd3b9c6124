"""Names of files and directories that libraries would take for something else.

A user may call a directory runs/lr[0.1]; etils would take it for a pattern.
Names that a library cannot read in any spelling are refused.
"""

import glob
import re
from collections.abc import Iterator

from etils import epath

from convmixer_jax.errors import UserError

_SCHEMES = ('gs', 's3', 'az', 'hf')  # etils takes /s3 for s3://
_UNREADABLE = {
  # TensorStore reads and writes other directories than the rest of a program.
  '\\\\': 'a backslash',
  '[\\n\\r\\0]': 'a line break or NUL',
  '[\\ud800-\\udfff]': 'bytes that are not UTF-8',
}
_PATTERN = r'[][*?#]'  # for gcsfs patterns and, behind #, a version
_PATH = type(epath.Path('/'))


def check_local(path: str) -> None:
  """Checks that all libraries find an absolute local path.

  Raises:
    UserError: names the part of the path that one does not.
  """
  for pattern, what in _UNREADABLE.items():
    if re.search(pattern, path):
      raise UserError(f'{path!r} has {what}; give a name without it')
  top = path.split('/')[1]
  if top in _SCHEMES:
    raise UserError(
      f'{path} is below /{top}, which a library takes for the bucket {top}://; '
      f'mount or link that directory elsewhere, such as /mnt/{top}'
    )


def check_bucket(path: str) -> None:
  """Checks that a path in a bucket is not a pattern.

  Raises:
    UserError: names the character that makes it one.
  """
  if found := re.search(_PATTERN, path):
    raise UserError(
      f'{path} has {found[0]!r}, which makes it a pattern or a version for '
      'Google Cloud Storage; give a name without it'
    )


def read_directories_literally() -> None:
  """Makes `epath.Path.glob` take its argument alone for a pattern.

  etils joins directory and pattern, so that the directory runs/lr[0.1] matches
  nothing. Orbax then leaves out a file without which a checkpoint cannot be
  read, and TFDS finds no data.
  """
  _PATH.glob = _glob


def _glob(self: epath.Path, pattern: str) -> Iterator[epath.Path]:
  is_local = '://' not in str(self)  # else `check_bucket` had a look
  if not is_local or '**' in pattern:  # which etils refuses
    yield from super(_PATH, self).glob(pattern)
    return
  for name in glob.iglob(pattern, root_dir=self):
    yield self / name
