"""PyTorch's files, as PyTorch wrote them (fixtures/checkpoint_*.pth.tar)."""

import collections
import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer import state_dict as layouts
from convmixer_jax.pretrained import torch_files
from convmixer_jax.pretrained.load import load

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
FORMATS = ('zip', 'stream')


@pytest.mark.parametrize('kind', FORMATS)
def test_files_of_pytorch_are_read(kind):
  loaded = load(str(FIXTURES / f'checkpoint_{kind}.pth.tar'), 'gelu')
  assert loaded.fields == {
    'width': 4,
    'depth': 2,
    'patch_size': 2,
    'kernel_size': 3,
    'activation': 'gelu',
  }
  ours = layouts.to_timm(loaded.variables)
  with np.load(FIXTURES / 'checkpoint.npz') as expected:
    assert ours.keys() == set(expected)
    for name, tensor in ours.items():
      if not name.endswith('num_batches_tracked'):
        np.testing.assert_array_equal(tensor, expected[name])


@pytest.mark.parametrize('kind', FORMATS)
def test_truncated_file_is_refused(kind, tmp_path):
  whole = (FIXTURES / f'checkpoint_{kind}.pth.tar').read_bytes()
  path = tmp_path / 'short.pth'
  for length in [0, 1, 3, 10, *range(20, len(whole), 977), len(whole) - 1]:
    path.write_bytes(whole[:length])
    with pytest.raises(UserError, match=r'short\.pth is cut short, damaged'):
      torch_files.read_state_dict(str(path))


@pytest.mark.parametrize('kind', FORMATS)
def test_damaged_bytes_raise_at_most_a_user_error(kind, tmp_path):
  whole = (FIXTURES / f'checkpoint_{kind}.pth.tar').read_bytes()
  rng = np.random.default_rng(0)
  path = tmp_path / 'damaged.pth'
  for _ in range(100):
    damaged = np.frombuffer(whole, np.uint8).copy()
    damaged[rng.integers(min(3000, len(whole)), size=3)] = rng.integers(256)
    path.write_bytes(damaged.tobytes())
    try:
      torch_files.read_state_dict(str(path))
    except UserError as error:
      assert 'damaged.pth' in str(error)


class Named:
  """Pickles as a call of something by its name."""

  def __init__(self, module, name, *arguments):
    self.module, self.name, self.arguments = module, name, arguments


class Pickler(pickle._Pickler):
  """Writes `Named` and storages as PyTorch's pickles have them."""

  def save_global_of(self, named):
    self.write(f'c{named.module}\n{named.name}\n'.encode())

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, Named):
      self.save_global_of(obj)
      if obj.arguments:
        super().save(obj.arguments)
        self.write(pickle.REDUCE)
      return
    super().save(obj, save_persistent_id)

  def persistent_id(self, obj):
    if isinstance(obj, Storage):
      kind = Named('torch', obj.kind)
      return ('storage', kind, obj.key, 'cpu', obj.size)
    return None


Storage = collections.namedtuple('Storage', ('kind', 'key', 'size'))


def tensor(storage, offset, shape, strides):
  return Named(
    'torch._utils', '_rebuild_tensor_v2', storage, offset, shape, strides, False
  )


def pickled(saved):
  stream = io.BytesIO()
  Pickler(stream, protocol=2).dump(saved)
  return stream.getvalue()


def write_zip(path, saved, storages=(), compression=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', pickled(saved))
    for key, array in dict(storages).items():
      archive.writestr(f'archive/data/{key}', array.tobytes())


def write_stream(path, saved, storages=()):
  parts = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}, saved]
  storages = dict(storages)
  stream = b''.join(map(pickled, [*parts, list(storages)]))
  for array in storages.values():
    stream += struct.pack('<q', array.size) + array.tobytes()
  path.write_bytes(stream)


WRITERS = (write_zip, write_stream)


@pytest.mark.parametrize('write', WRITERS)
def test_views_of_one_storage_are_read(write, tmp_path):
  numbers = np.arange(12, dtype=np.float64)
  storage = Storage('DoubleStorage', 'a', 12)
  path = tmp_path / 'views.pt'
  write(
    path,
    collections.OrderedDict(
      rows=tensor(storage, 0, (3, 4), (4, 1)),
      columns=tensor(storage, 0, (4, 3), (1, 4)),
      part=tensor(storage, 5, (2, 2), (4, 2)),
      scalar=tensor(storage, 11, (), ()),
      empty=tensor(storage, 12, (0, 3), (3, 1)),
      again=tensor(storage, 3, (2, 2), (0, 1)),
    ),
    {'a': numbers},
  )
  read = torch_files.read_state_dict(str(path))
  grid = numbers.reshape(3, 4)
  for name, expected in {
    'rows': grid,
    'columns': grid.T,
    'part': [[5, 7], [9, 11]],
    'scalar': 11,
    'empty': np.zeros((0, 3)),
    'again': [[3, 4], [3, 4]],
  }.items():
    np.testing.assert_array_equal(read[name], expected)
    assert not read[name].flags.writeable


def test_bfloat16_is_read(tmp_path):
  values = np.array([1.0, -2.5, 0.15625], np.float32)
  path = tmp_path / 'half.pt'
  write_zip(
    path,
    {'a': tensor(Storage('BFloat16Storage', '0', 3), 0, (3,), (1,))},
    {'0': (values.view(np.uint32) >> 16).astype(np.uint16)},
  )
  read = torch_files.read_state_dict(str(path))['a']
  np.testing.assert_array_equal(read.astype(np.float32), values)


@pytest.mark.parametrize('write', WRITERS)
@pytest.mark.parametrize(
  ('offset', 'shape', 'strides'),
  [
    (0, (13,), (1,)),
    (1, (3, 4), (4, 1)),
    (0, (2, 2), (12, 1)),
    (-1, (2,), (1,)),
    (0, (2,), (-1,)),
    (0, (2, 2), (1,)),
    (0, ('2',), (1,)),
    (0, (2**62, 2**62), (2**62, 1)),
  ],
)
def test_tensor_outside_its_storage_is_refused(
  write, offset, shape, strides, tmp_path
):
  path = tmp_path / 'outside.pt'
  storage = Storage('FloatStorage', '0', 12)
  write(
    path,
    {'a': tensor(storage, offset, shape, strides)},
    {'0': np.zeros(12, np.float32)},
  )
  with pytest.raises(UserError, match='is cut short, damaged'):
    torch_files.read_state_dict(str(path))


@pytest.mark.parametrize('write', WRITERS)
@pytest.mark.parametrize(
  ('module', 'name', 'arguments'),
  [
    ('os', 'system', ('touch TRACE',)),
    ('posix', 'system', ('touch TRACE',)),
    ('builtins', 'eval', ('open("TRACE", "w")',)),
    ('builtins', 'getattr', ({}, 'keys')),
    ('convmixer_jax.pretrained.torch_files', 'open', ('TRACE', 'w')),
    ('torch.storage', '_load_from_bytes', (b'',)),
    ('torch', 'load', ('TRACE',)),
    ('torch', '_DTYPES', ()),
    ('numpy.core.multiarray', 'scalar', ()),
  ],
)
def test_pickled_objects_other_than_tensors_are_refused_by_name(
  write, module, name, arguments, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'evil.pth'
  write(path, {'state_dict': {}, 'extra': [Named(module, name, *arguments)]})
  with pytest.raises(UserError) as caught:
    torch_files.read_state_dict(str(path))
  assert f"is refused: it names '{module}.{name}'" in str(caught.value)
  assert '\n' not in str(caught.value)
  assert [file.name for file in tmp_path.iterdir()] == ['evil.pth']


def test_attributes_set_by_a_pickle_do_not_persist(tmp_path):
  path = tmp_path / 'changes.pth'
  # BUILD on the class, not on an instance: sets an attribute of it.
  pickle_bytes = (
    b'\x80\x02cargparse\nNamespace\nN}(X\x04\x00\x00\x00evilK\x01u\x86b.'
  )
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickle_bytes)
  with pytest.raises(UserError, match='not weights by name'):
    torch_files.read_state_dict(str(path))
  again = torch_files._Unpickler(io.BytesIO(), 'x')
  assert not hasattr(again.find_class('argparse', 'Namespace'), 'evil')


def test_compressed_archive_is_refused(tmp_path):
  path = tmp_path / 'bomb.pth'
  write_zip(path, {'a': [0] * 10**4}, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(UserError, match='is compressed, which PyTorch does not'):
    torch_files.read_state_dict(str(path))


@pytest.mark.parametrize(
  ('saved', 'message'),
  [
    ([1, 2], 'holds a list, not weights by name'),
    ({}, 'holds a dict, not weights by name'),
    ({'epoch': 3, 'net': {}}, 'has no state_dict: epoch, net are not tensors'),
    ({'model': 'resnet'}, 'holds a str, not weights by name'),
  ],
)
def test_file_without_weights_is_refused(saved, message, tmp_path):
  path = tmp_path / 'other.pth'
  write_zip(path, saved)
  with pytest.raises(UserError, match=message):
    torch_files.read_state_dict(str(path))


# Tuples of ten times the tuple before: hashing the last would take for ever.
TUPLES = b')q\0' + b''.join(
  b'(' + b'h%c' % i * 10 + b'tq%c' % (i + 1) for i in range(40)
)


@pytest.mark.parametrize(
  'content',
  [
    b'\x80\x02}' + TUPLES + b'Ns.',
    b'\x80\x02}(' + TUPLES + b'Nu.',
    b'\x80\x02(' + TUPLES + b'Nd.',
    b'\x80\x04\x8f(' + TUPLES + b'\x90.',
    b'\x80\x04(' + TUPLES + b'\x91.',
    b'\x80\x02cbuiltins\nset\n](' + TUPLES + b'e\x85R.',
    b'\x80\x02ccollections\nOrderedDict\n](' + TUPLES + b'N\x86e\x85R.',
    b'\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\n'
    + (TUPLES + b'K\0K\1tQ.'),
    b'\x80\x05\x96' + (2**34).to_bytes(8, 'little') + b'x.',
  ],
)
def test_pickle_that_would_take_all_time_or_memory_is_refused(
  content, tmp_path
):
  path = tmp_path / 'slow.pth'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', content)
  with pytest.raises(UserError, match='is cut short, damaged'):
    torch_files.read_state_dict(str(path))


def test_tensor_that_repeats_its_numbers_is_refused(tmp_path):
  path = tmp_path / 'repeated.pt'
  many = tensor(Storage('FloatStorage', '0', 1), 0, (10**9, 10**9), (0, 0))
  write_zip(path, {'a': many}, {'0': np.zeros(1, np.float32)})
  with pytest.raises(UserError, match='repeats 1 numbers'):
    torch_files.read_state_dict(str(path))
