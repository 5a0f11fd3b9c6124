"""Files of weights, and corrupted ones: their headers, pickles and bytes."""

import io
import json
import pathlib
import pickle
import pickletools
import struct
import zipfile

from corruption import corrupt, corrupt_json, strange

from convmixer_jax.pretrained.load import load

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
_OPCODES = [op.code.encode('latin-1') for op in pickletools.opcodes]
_NAMES = (
  *(b'os\nsystem\n', b'builtins\nexec\n', b'builtins\ngetattr\n'),
  *(b'torch._utils\n_rebuild_tensor_v2\n', b'collections\nOrderedDict\n'),
  *(b'torch\nFloatStorage\n', b'argparse\nNamespace\n', b'numpy\nzeros\n'),
  *(b'torch\nSize\n', b'builtins\nset\n', b'builtins\nbytearray\n'),
)
_DTYPES = (
  *('F64', 'F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2', 'F4', 'I64', 'I8'),
  *('U16', 'BOOL', 'C64', 'F8_E8M0', 'X9', ''),
)


def set_up_safetensors(directory, trained_run):
  del trained_run
  import safetensors.numpy

  from convmixer_jax.pretrained import torch_files

  tensors = torch_files.read_state_dict(
    str(FIXTURES / 'checkpoint_zip.pth.tar')
  )
  known = {'network': 'convmixer', 'fields': {'activation': 'gelu'}}
  header = {'format': 'pt', 'convmixer_jax': json.dumps(known)}
  path = directory / 'fuzz.safetensors'

  def read(content):
    data, config = content
    path.write_bytes(data)
    (directory / 'config.json').write_bytes(config)
    _load(path)

  config = {
    'architecture': 'convmixer_768_32',
    'label_names': ['a', 'b', 'c'],
    'pretrained_cfg': {
      'input_size': [3, 224, 224],
      'crop_pct': 0.96,
      'mean': [0.485, 0.456, 0.406],
      'std': [0.229, 0.224, 0.225],
    },
  }
  config = json.dumps(config).encode()
  tensors = {name: array.copy() for name, array in tensors.items()}
  return read, {
    'ours': (safetensors.numpy.save(tensors, header), config),
    "timm's": (safetensors.numpy.save(tensors), config),
  }


def _load(path):
  trained = load(str(path))
  assert trained.model is not None
  trained.eval_config(4)
  trained.labels()


def corrupt_safetensors(cases, rng):
  data, config = cases[sorted(cases)[int(rng.integers(len(cases)))]]
  (length,) = struct.unpack('<Q', data[:8])
  header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
  kind = rng.integers(5)
  if kind == 0:
    return corrupt(data, rng), config
  if kind == 1:
    return data, corrupt_json(json.loads(config), rng)
  if kind == 2 and '__metadata__' in header:
    known = json.loads(header['__metadata__']['convmixer_jax'])
    known |= {'mean': [0.5] * 3, 'std': [1.0] * 3, 'image_size': 32}
    known |= {'eval_crop_fraction': 0.9, 'class_names': ['a', 'b', 'c']}
    changed = corrupt_json(known, rng).decode('utf-8', 'replace')
    header['__metadata__']['convmixer_jax'] = changed
    text = json.dumps(header).encode()
  elif kind == 3:
    name = str(rng.choice([name for name in header if name != '__metadata__']))
    entry = header[name]
    match rng.integers(4):
      case 0:
        entry['dtype'] = str(rng.choice(_DTYPES))
      case 1:
        entry['data_offsets'] = [strange(rng), strange(rng)]
      case 2:
        entry['shape'] = [strange(rng)] * int(rng.integers(5))
      case 3:
        header['twice'] = entry
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
      text = text[:-1] + b',' + text[1:]  # each key twice
  else:
    text = corrupt_json(header, rng)
  size = (
    len(text)
    if rng.random() < 0.8
    else int(rng.integers(2**63)) >> int(rng.integers(63))
  )
  return struct.pack('<Q', size) + text + numbers, config


def set_up_pth(directory, trained_run):
  del trained_run
  path = directory / 'fuzz.pth'

  def read(data):
    path.write_bytes(data)
    _load(path)

  return read, {
    kind: (FIXTURES / f'checkpoint_{kind}.pth.tar').read_bytes()
    for kind in ('zip', 'stream')
  }


def corrupt_pth(cases, rng):
  kind = str(rng.choice(sorted(cases)))
  data = cases[kind]
  if rng.random() < 0.3:
    return corrupt(data, rng)
  pickled = _pickle_of(data, kind)
  match rng.integers(4):
    case 0:
      changed = corrupt(pickled, rng)
    case 1:
      changed = _with_opcodes(pickled, rng)
    case 2:
      changed = _with_opcodes(b'\x80\x02.', rng)
    case 3:
      changed = _extreme(rng)
  if kind == 'stream':
    return data.replace(pickled, changed, 1)
  return _replaced(data, changed)


def _pickle_of(data, kind):
  if kind == 'zip':
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      (name,) = (n for n in archive.namelist() if n.endswith('/data.pkl'))
      return archive.read(name)
  stream = io.BytesIO(data)
  for _ in range(3):  # number, version and machine
    pickle.load(stream)
  start = stream.tell()
  for opcode, _, position in pickletools.genops(data[start:]):
    if opcode.code == '.':
      return data[start : start + position + 1]
  raise AssertionError('no pickle')


def _replaced(data, pickled):
  stream = io.BytesIO()
  with (
    zipfile.ZipFile(io.BytesIO(data)) as old,
    zipfile.ZipFile(stream, 'w') as new,
  ):
    for name in old.namelist():
      is_pickle = name.endswith('/data.pkl')
      new.writestr(name, pickled if is_pickle else old.read(name))
  return stream.getvalue()


def _with_opcodes(pickled, rng):
  """Returns a pickle with random opcodes and names in it."""
  changed = bytearray(pickled)
  for _ in range(rng.integers(1, 30)):
    at = int(rng.integers(2, len(changed)))
    if rng.random() < 0.3:
      name = b'c' + _NAMES[int(rng.integers(len(_NAMES)))]
      changed[at:at] = name + b'(X\x04\x00\x00\x00echo' + b'tR'
    else:
      argument = rng.bytes(int(rng.choice([0, 0, 1, 2, 4, 8])))
      changed[at:at] = _OPCODES[int(rng.integers(len(_OPCODES)))] + argument
  return bytes(changed)


def _extreme(rng):
  """Returns a pickle that asks for much: sizes, depth, repetition."""
  depth = int(rng.choice([500, 50_000]))
  tuples = b')q\x00' + b''.join(
    b'(' + b'h' + bytes([i]) + (b'h' + bytes([i])) * 9 + b'tq' + bytes([i + 1])
    for i in range(40)
  )
  cases = [
    b'\x80\x02' + b'(' * depth + b't' * depth + b'.',
    b'\x80\x02' + b']' * depth + b'a' * (depth - 1) + b'.',
    b'\x80\x04\x8e' + struct.pack('<Q', 2**40) + b'x.',  # bytes
    b'\x80\x04\x8d' + struct.pack('<Q', 2**62) + b'x.',  # text
    b'\x80\x05\x96' + struct.pack('<Q', 2**36) + b'x.',  # bytearray
    b'\x80\x04\x95' + struct.pack('<Q', 2**40) + b'x.',  # frame
    b'\x80\x02\x8b' + struct.pack('<i', 2**31 - 1) + b'x.',  # number
    b'\x80\x02r' + struct.pack('<I', 2**32 - 1) + b'}.',  # memo
    b'\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.',
    b'\x80\x02ctorch\nSize\n' + b'\x8a\x0a' + bytes(9) + b'\x01' + b'\x85R.',
    # Tuples of ten times the tuple before: 10 ** 40 elements, if looked at.
    b'\x80\x02}' + tuples + b'Ns.',
    b'\x80\x02(' + tuples + b'ctorch\nFloatStorage\nK\x00K\x00K\x01tQ.',
    b'\x80\x02cbuiltins\nset\n(' + tuples + b'l\x85R.',
    b'\x80\x02}(X\x01\x00\x00\x00a' + tuples + b'u.',
    b'\x80\x02I' + b'9' * depth + b'\n.',
  ]
  return cases[int(rng.integers(len(cases)))]
