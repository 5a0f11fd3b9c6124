"""Checks that all processes of a run have the same config, code and data.

A process with another learning rate, code or data set would not fail: its part
of the batch would be wrong, or all processes would wait for each other forever.
"""

import collections
import contextlib
import hashlib
import inspect
import json
import pathlib
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from convmixer_jax.config import flatten
from convmixer_jax.data.sources import Source
from convmixer_jax.distributed.watchdog import PATIENCE, Watchdog
from convmixer_jax.errors import InUse, UserError
from convmixer_jax.models import MODELS, find_architecture
from convmixer_jax.versions import package_versions

# May differ between hosts: how each reads the same images.
_MAY_DIFFER = (
  'config.dataset.data_dir',
  'config.dataset.cache_mib',
  'config.input.',
)
_SHOWN = 5  # differences listed in a message
_HANG_TIMEOUT = 600  # seconds, until that of the config is known
_ABSENT = 'none'


@contextlib.contextmanager
def require_same_on_all_processes() -> Iterator[dict[str, Any]]:
  """Compares a fingerprint between processes at the end of the `with` block.

  An exception that one process raises in the block ends the others too.

  Yields:
    A dict to fill with values that must be the same in all processes.

  Raises:
    UserError: values differ (the message names the processes, their hosts and
      the values), or another process raised an exception.
  """
  fingerprint: dict[str, Any] = {}
  if jax.process_count() == 1:
    yield fingerprint
    return
  _check_devices()
  try:
    yield fingerprint
  except Exception as error:
    _exchange(
      {
        'error': str(error) or type(error).__name__,
        'in_use': isinstance(error, InUse),
      },
      _HANG_TIMEOUT,
    )
    raise
  found = _exchange(
    {
      'host': socket.gethostname(),
      'fingerprint': {name: str(value) for name, value in fingerprint.items()},
    },
    fingerprint.get('config.hang_timeout', _HANG_TIMEOUT),
  )
  for number, other in enumerate(found):
    if 'error' in other:
      kind = InUse if other['in_use'] else UserError
      raise kind(f'process {number} stopped: {other["error"]}')
  if differences := compare([other['fingerprint'] for other in found]):
    hosts = ', '.join(
      f'{i} on {other["host"]}' for i, other in enumerate(found)
    )
    raise UserError(
      f'{differences}; start all processes with the same command, code and '
      f'data (processes: {hosts})'
    )


def collect_fingerprint(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  checkpoints: Sequence[int],
  sources: dict[str, Source],
) -> dict[str, Any]:
  """Returns all values that must be the same in all processes, by name.

  Args:
    config: the whole config.
    workdir: of the run.
    checkpoints: the steps that have a checkpoint in it.
    sources: the data of each split, by name.
  """
  fingerprint = {
    f'config.{key}': value for key, value in flatten(config).items()
  }
  fingerprint = {
    k: v for k, v in fingerprint.items() if not k.startswith(_MAY_DIFFER)
  }
  fingerprint |= {'--workdir': workdir, 'checkpoints in --workdir': checkpoints}
  for name, source in sources.items():
    fingerprint |= {
      f'images in {name}': len(source),
      f'classes of {name}': _digest(json.dumps(source.class_names).encode()),
      f'content of {name}': _digest(_some_examples(source)),
    }
  for name, version in package_versions().items():
    fingerprint[f'version of {name}'] = version
  package = pathlib.Path(__file__).parents[1]
  for path in sorted(package.rglob('*')):
    if path.suffix in ('.py', '.cc', '.h'):
      within = path.relative_to(package.parent)
      fingerprint[f'code of {within}'] = _digest(path.read_bytes())
  name = config.model.name
  if name not in MODELS:  # the code of MODELS is part of the package
    network = find_architecture(name).module
    with contextlib.suppress(OSError, TypeError):  # as in a notebook
      code = inspect.getsource(sys.modules[network.__module__])
      fingerprint[f'code of {network.__module__}'] = _digest(code.encode())
  return fingerprint


def compare(fingerprints: Sequence[dict[str, str]]) -> str:
  """Returns how processes differ from the majority, or '' if they do not.

  Args:
    fingerprints: of each process.
  """
  differences = []
  for name in sorted({name for each in fingerprints for name in each}):
    values = [each.get(name, _ABSENT) for each in fingerprints]
    ((usual, _),) = collections.Counter(values).most_common(1)
    differences += [
      f'process {number} has {name} = {value}, '
      f'process {values.index(usual)} has {usual}'
      for number, value in enumerate(values)
      if value != usual
    ]
  more = len(differences) - _SHOWN
  shown = differences[:_SHOWN] + [f'and {more} more differences'] * (more > 0)
  return '; '.join(shown)


def _check_devices() -> None:
  if not jax.distributed.is_initialized():
    raise UserError(
      f'this is one of {jax.process_count()} processes, and they were not '
      'joined; give --distributed'
    )
  counts = collections.Counter(device.process_index for device in jax.devices())
  if len(set(counts.values())) > 1:
    raise UserError(
      'processes have different numbers of devices: '
      + ', '.join(f'process {i} has {counts[i]}' for i in sorted(counts))
    )


def _exchange(
  mine: dict[str, Any], hang_timeout: float
) -> list[dict[str, Any]]:
  """Returns the dict that each process gave, in the order of processes."""
  content = np.frombuffer(json.dumps(mine).encode(), np.uint8)
  with Watchdog(hang_timeout) as watchdog:
    watchdog.expect('the other processes to begin', PATIENCE)
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    padded = np.pad(content, (0, max(sizes) - len(content)))
    gathered = multihost_utils.process_allgather(padded)
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(gathered, sizes, strict=True)
  ]


def _some_examples(source: Source) -> bytes:
  content = []
  for index in sorted({0, len(source) // 2, len(source) - 1}):
    example = source[index]
    content += [example['image'].tobytes(), str(example['label']).encode()]
  return b'|'.join(content)


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:12]
