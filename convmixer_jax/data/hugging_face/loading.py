"""Opens a data set of the Hugging Face Hub, or a local one of its formats.

  hf:OWNER/NAME[/CONFIG][@REVISION]   of the hub, or of its cache
  hf:DIRECTORY                        of `save_to_disk`, or of Parquet files

The package `datasets` does it, so that HF_HOME, HF_TOKEN and
HF_DATASETS_OFFLINE work as usual. It is an optional one.
"""

import os
import re
import sys
from typing import TYPE_CHECKING

from convmixer_jax.errors import UserError, one_line

if TYPE_CHECKING:
  import datasets

PREFIX = 'hf:'
_EXAMPLES = 'give hf:OWNER/NAME, hf:OWNER/NAME/CONFIG or hf:DIRECTORY'


def load_splits(name: str, cache_dir: str) -> dict[str, 'datasets.Dataset']:
  """Returns the splits of a data set, which stay on disk.

  Args:
    name: of the data set, with `PREFIX`.
    cache_dir: where to keep downloads; '' for the usual place.

  Raises:
    UserError: the package is missing, there is no such set, or the hub cannot
      be reached.
  """
  try:
    import datasets
  except ImportError as error:
    raise UserError(
      f'{name} needs the package datasets; install it: pip install '
      "'convmixer-jax[huggingface]', or, in a checkout, pip install "
      "'.[huggingface]'"
    ) from error
  if not sys.stderr.isatty():
    datasets.disable_progress_bars()
  rest = name.removeprefix(PREFIX)
  directory = os.path.expanduser(rest)
  try:
    if os.path.isdir(directory):
      found = _load_directory(datasets, directory, cache_dir)
    else:
      found = _load_from_hub(datasets, name, rest, cache_dir)
  except UserError:
    raise
  except Exception as error:  # of the package, the hub or the network
    raise UserError(
      f'{name} cannot be opened ({one_line(error)}); check the name and the '
      f'network, or {_EXAMPLES}'
    ) from error
  return dict(found)


def short_name(name: str) -> str:
  """Returns the name of a set without a path or a revision."""
  rest = name.removeprefix(PREFIX)
  if os.path.isdir(os.path.expanduser(rest)):
    return PREFIX + os.path.basename(os.path.abspath(os.path.expanduser(rest)))
  return PREFIX + rest.partition('@')[0]


def _load_directory(datasets, directory, cache_dir):
  files = os.listdir(directory)
  if 'dataset_dict.json' in files:
    return datasets.load_from_disk(directory)
  if 'state.json' in files:
    return {'train': datasets.load_from_disk(directory)}
  return datasets.load_dataset(directory, cache_dir=cache_dir or None)


def _load_from_hub(datasets, name, rest, cache_dir):
  repository, _, revision = rest.partition('@')
  parts = repository.split('/')
  if not all(re.fullmatch(r'[\w.-]+', part) for part in parts[:3]) or parts[3:]:
    raise UserError(
      f'{name} is neither a data set of the hub nor a directory; {_EXAMPLES}'
    )
  return datasets.load_dataset(
    '/'.join(parts[:2]),
    parts[2] if len(parts) == 3 else None,
    revision=revision or None,
    cache_dir=cache_dir or None,
  )
