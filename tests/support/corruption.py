"""Corrupts the bytes of files, as disks, networks and attackers do."""

import json

import numpy as np

# Sizes and counts that overflow something.
_EXTREME = (
  0,
  1,
  -1,
  2**31 - 1,
  2**31,
  2**32,
  2**63 - 1,
  2**63,
  -(2**63),
  2**70,
)


def corrupt(data, rng, other=b''):
  """Returns `data` after one to four changes: bits, bytes, order, length.

  Args:
    data: content of a file.
    rng: draws the changes.
    other: another file, of which parts are spliced in.
  """
  data = bytearray(data)
  for _ in range(rng.integers(1, 5)):
    if not data:
      break
    # Half of the changes are in the header.
    at = int(
      rng.integers(len(data) if rng.random() < 0.5 else min(64, len(data)))
    )
    size = int(rng.integers(1, 33))
    match rng.integers(8):
      case 0:
        data[at] ^= 1 << int(rng.integers(8))
      case 1:
        data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
      case 2:
        data[at : at + size] = rng.bytes(size)
      case 3:
        del data[at : at + size]
      case 4:
        data[at:at] = data[at : at + size]
      case 5:
        del data[at:]
      case 6:
        source = other or bytes(data)
        start = int(rng.integers(len(source)))
        data[at : at + size] = source[start : start + 4 * size]
      case 7:
        value = int(rng.choice(np.array(_EXTREME, object))) % 2**64
        length = int(rng.choice([2, 4, 8]))
        order = str(rng.choice(['little', 'big']))
        data[at : at + length] = (value % 2 ** (8 * length)).to_bytes(
          length, order
        )
  return bytes(data)


def corrupt_json(value, rng):
  """Returns the text of JSON in which a few values or keys are others."""
  value = json.loads(json.dumps(value))
  for _ in range(rng.integers(1, 4)):
    places = list(_places(value))
    if places:
      container, key = places[int(rng.integers(len(places)))]
      if isinstance(container, dict) and rng.random() < 0.2:
        container[str(strange(rng))[:50]] = container.pop(key)
      elif rng.random() < 0.2:
        del container[key]
      else:
        container[key] = strange(rng)
  text = json.dumps(value)
  match rng.integers(8):
    case 0:
      depth = int(rng.choice([100, 10**5]))
      return text.replace('1', '[' * depth + ']' * depth, 1).encode()
    case 1:
      return text.replace('1', '9' * 5000, 1).encode()
    case 2:
      return text.encode('utf-16')
    case 3:
      return corrupt(text.encode(), rng)
  return text.encode()


def strange(rng):
  """Returns a value that readers do not expect."""
  values = [
    *(None, True, '', [], {}, [[]], {'a': {'b': None}}, 'x' * 1000),
    *(float('nan'), float('inf'), -float('inf'), 1e308, 0.5, -1),
    *(int(n) for n in _EXTREME),
    *(['a', 1], [None] * 3, [float('nan')] * 3, '\ud800', 'nul\0', '..'),
    *('/etc/passwd', 'os.system', 'n\nl', '\u202e', [0, 0, 0], [10**9] * 3),
  ]
  return values[int(rng.integers(len(values)))]


def _places(value):
  if isinstance(value, dict):
    items = list(value.items())
  elif isinstance(value, list):
    items = list(enumerate(value))
  else:
    return
  for key, item in items:
    yield value, key
    yield from _places(item)
