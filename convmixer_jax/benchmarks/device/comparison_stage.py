"""The stage that compares the networks of the paper by `convmixer compare`."""

import json
from typing import Any

from convmixer_jax.benchmarks.comparison.picture import PUBLISHED, find_accuracy
from convmixer_jax.benchmarks.comparison.rows import NAME
from convmixer_jax.benchmarks.device.rows import Row
from convmixer_jax.benchmarks.device.session import Session

_STAGE = 'comparison'
_KINDS = ('forward', 'train')
_COPIED = (
  *('image_size', 'parameters', 'macs', 'activations'),
  *(f'{kind}_images_per_sec' for kind in _KINDS),
  *(f'{kind}_memory_mib' for kind in _KINDS),
)


def compare_networks(session: Session) -> None:
  """Writes the table of the networks beside the results, and adds its rows.

  The command writes `compare.csv`, `.md`, `.json` and `.png` after each of its
  measurements: counts, then speed and memory, network after network. So they
  have what was found when it is killed because the time is over.
  """
  rows = session.rows
  command = session.python(
    *('-m', 'convmixer_jax', 'compare'),
    *session.settings.comparison,
    f'--output={session.directory}',
  )
  output = session.run(command, session.budget.left(_STAGE))
  end = f'compare {output.outcome}: {output.last_line}'
  is_explained = False  # by a network that failed
  for name, row in _read(session).items():
    rows.add(_STAGE, **describe(name, row))
    for kind, reason in row.get('failed', {}).items():
      rows.add(_STAGE, network=name, kind=kind, failed=reason)
      is_explained = True
  if output.status is None:
    rows.add(_STAGE, missing=end)
  elif output.status != 0 and not is_explained:
    rows.add(_STAGE, failed=end)


def _read(session: Session) -> dict[str, Row]:
  """Returns the command's rows by network; empty if there are none yet."""
  path = session.directory / NAME
  return json.loads(path.read_text())['rows'] if path.exists() else {}


def describe(name: str, row: Row) -> dict[str, Any]:
  """Returns a row of the run for a row of the comparison.

  Args:
    name: of the network.
    row: its values, as far as they are known.
  """
  found: dict[str, Any] = {'network': name}
  found |= {key: row[key] for key in _COPIED if key in row}
  if accuracy := find_accuracy(name, row):
    found['top1'], source = accuracy
    size = row.get('published_size')
    if source == PUBLISHED and size != row.get('image_size'):
      source += f', at {size}'  # not that of counts and speeds
    found['top1_source'] = source
  return found
