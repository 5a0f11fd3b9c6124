"""The spelling of where a trained network is; the only place that reads it.

  hf://OWNER/NAME[@REVISION]   a repository of the Hugging Face Hub
  FILE                         a file of weights
  DIRECTORY                    with model.safetensors
  RUN                          a run: its best checkpoint, else its newest
  RUN@STEP                     a run: this checkpoint, or
  RUN@best, RUN@newest         the best by held-out accuracy, or the newest
  RUN/checkpoints/STEP         the same as RUN@STEP

Paths are local or in a bucket, `gs://`. A path that exists as it is written is
not split at '@'.
"""

import dataclasses
import os
import re
from typing import Literal, cast

from etils import epath

from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.errors import UserError

_HUB = 'hf://'
_WEIGHTS = 'model.safetensors'
_STEP = '[0-9]{1,18}'  # which fit in 64 bits
_EXAMPLES = 'a run directory, a file of weights or hf://OWNER/NAME'

# A checkpoint of a run: its step, or which one; None: the best or, where none
# was evaluated, the newest.
Checkpoint = int | Literal['best', 'newest'] | None


@dataclasses.dataclass(frozen=True)
class HubSource:
  """A repository of the Hugging Face Hub, as OWNER/NAME.

  Attributes:
    repository: as OWNER/NAME.
    revision: a branch, tag or commit; None for the main branch.
  """

  repository: str
  revision: str | None

  def __str__(self) -> str:
    """Returns it as it was given."""
    revision = '' if self.revision is None else f'@{self.revision}'
    return f'{_HUB}{self.repository}{revision}'


@dataclasses.dataclass(frozen=True)
class FileSource:
  """A file of weights, which exists."""

  path: epath.Path


@dataclasses.dataclass(frozen=True)
class RunSource:
  """A checkpoint of a run.

  Attributes:
    workdir: the run's directory, absolute.
    name: the run's directory as it was given.
    checkpoint: which one; it need not exist.
  """

  workdir: epath.Path
  name: str
  checkpoint: Checkpoint


def parse_source(
  source: str | os.PathLike,
) -> HubSource | FileSource | RunSource:
  """Finds what a source is, from its spelling and the files that exist.

  Args:
    source: see the module.

  Raises:
    UserError: it is none of these, or in a bucket that cannot be read.
  """
  if not isinstance(source, (str, os.PathLike)):
    raise UserError(
      f'the source is a {type(source).__name__}, not a string or a path; give '
      f'{_EXAMPLES}'
    )
  source = str(source)
  if not source:
    raise UserError(f'the source is empty; give {_EXAMPLES}')
  if source.startswith(_HUB):
    return _parse_hub(source)
  path = _to_path(source)
  check_access(path)
  if path.exists():
    found = _find(path, source)
    if found is None:
      raise UserError(
        f'{source} is neither a run (it has no config.json) nor weights (it '
        f'has no {_WEIGHTS}); give {_EXAMPLES}'
      )
    return found
  if _is_in_run(path) and path.parent.is_dir():
    return _checkpoint(path, source)  # it is missing, which reading it reports
  run, at, checkpoint = source.rstrip('/').rpartition('@')
  if not at or not run or '/' in checkpoint:
    raise UserError(f'there is no file or directory {source}; give {_EXAMPLES}')
  path = _to_path(run)
  if not path.exists():
    raise UserError(
      f'there is no file or directory {source}, and no run {run}; give '
      f'{_EXAMPLES}'
    )
  found = _find(path, run)
  if not isinstance(found, RunSource) or found.checkpoint is not None:
    raise UserError(
      f'{source}: {run} is not a run directory, so it has no checkpoint '
      f'{checkpoint!r}; leave out @{checkpoint}'
    )
  is_step = re.fullmatch(_STEP, checkpoint)
  if checkpoint not in ('best', 'newest') and not is_step:
    raise UserError(
      f'{source}: {checkpoint!r} is not a checkpoint; give {run}@STEP, '
      f'{run}@best or {run}@newest'
    )
  chosen = int(checkpoint) if is_step else checkpoint
  return dataclasses.replace(found, checkpoint=cast(Checkpoint, chosen))


def _parse_hub(source):
  match = re.fullmatch(r'([^@/]+/[^@/]+)(?:@(.+))?', source.removeprefix(_HUB))
  if not match:
    raise UserError(
      f'{source} is not a repository; give hf://OWNER/NAME or '
      'hf://OWNER/NAME@REVISION'
    )
  return HubSource(*match.groups())


def _to_path(source):
  """Returns an absolute path, in which symbolic links stay as they are.

  In the hub's cache they have the names of files, and their targets do not.
  """
  path = files.absolute_path(source)
  if files.is_in_bucket(path):
    return path
  return epath.Path(os.path.abspath(os.path.expanduser(source)))


def _find(path, source):
  """Returns what an existing path is, or None for any other directory."""
  if not path.is_dir():
    return FileSource(path)
  if _is_in_run(path):
    return _checkpoint(path, source)
  if not files.is_in_bucket(path):
    target = epath.Path(os.path.realpath(path))
    if _is_in_run(target):
      return _checkpoint(target, str(target))
  has_checkpoints = (path / 'checkpoints').exists()
  if not has_checkpoints and (path / _WEIGHTS).exists():
    return FileSource(path / _WEIGHTS)
  if has_checkpoints or (path / 'config.json').exists():
    return RunSource(files.absolute_path(source), source, None)
  return None


def _is_in_run(path):
  """Whether a path ends with checkpoints/STEP."""
  return (
    path.parent.name == 'checkpoints'
    and re.fullmatch(_STEP, path.name) is not None
  )


def _checkpoint(path, source):
  """Returns the source of RUN/checkpoints/STEP."""
  workdir = path.parent.parent
  match = re.fullmatch(r'(.+?)/+checkpoints/+[0-9]+/*', source)
  name = match[1] if match else str(workdir)
  return RunSource(files.absolute_path(str(workdir)), name, int(path.name))
