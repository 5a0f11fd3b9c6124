"""Checks the arguments of a run, before anything is measured or written."""

import os
import pathlib
import re

from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.data.prepare.image_tar import check_image_tar
from convmixer_jax.errors import UserError

_SECONDS_TO_IMPORT = 60.0
_PRINT_VERSIONS = """
import timm, torch
for module in torch, timm:
  print(f'{module.__name__}=={module.__version__}', flush=True)
"""


def check_inputs(
  directory: pathlib.Path, cifar10: str | None, data_dir: str | None
) -> None:
  """Checks the paths of a run.

  Args:
    directory: directory for the results.
    cifar10: a tar of images named split/label/name.jpg, or None.
    data_dir: a directory of TFDS with a prepared CIFAR-10, or None.

  Raises:
    UserError: the directory cannot be written to, or has the results of another
      run; the tar or the data set does not exist or is not valid.
  """
  if (directory / 'rows.jsonl').exists():
    raise UserError(
      f'--output={directory} has the rows.jsonl of another run; give another '
      'directory'
    )
  existing = directory.absolute()
  while not existing.exists():
    existing = existing.parent
  if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
    raise UserError(
      f'--output={directory}: {existing} is not a directory that can be '
      'written to; give another'
    )
  if data_dir and not any(
    pathlib.Path(data_dir).glob('cifar10/*/dataset_info.json')
  ):
    raise UserError(
      f'--data_dir={data_dir} has no prepared cifar10; prepare it there, or '
      'give --cifar10=FILE.tar.xz'
    )
  if cifar10:
    check_image_tar(cifar10)


def find_torch(session: Session) -> None:
  """Sets `session.torch_missing` where PyTorch and timm cannot be imported.

  Else their versions are added to the rows.
  """
  command = [session.torch_python, '-c', _PRINT_VERSIONS]
  try:
    output = session.run(command, _SECONDS_TO_IMPORT)
  except OSError as error:
    session.torch_missing = f'{session.torch_python} does not start ({error})'
    return
  if output.status != 0:
    session.torch_missing = (
      f'{session.torch_python} cannot import torch and timm: '
      f'{output.outcome}: {output.last_line}'
    )
    return
  # Others may print, too.
  lines = (text for _, text in output.lines)
  found = dict(re.findall(r'^(torch|timm)==(\S+)$', '\n'.join(lines), re.M))
  session.rows.add('machine', torch=found)
