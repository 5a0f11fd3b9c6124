"""Reads PyTorch's files without PyTorch, and without running what they say.

A `.pth` file is a pickle beside the tensors' bytes, and a pickle may call any
function. Here it may name a few, which make tensors and plain containers; a
file that names another is refused. Both of PyTorch's formats are read: the zip
archive, and the older stream of pickles (before 1.6, 2020).
"""

import collections
import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from convmixer_jax.errors import UserError, one_line

_ZIP = b'PK\x03\x04'
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
# Where training programs keep the weights; timm's order: averaged ones first.
_WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_DTYPES = {
  'DoubleStorage': np.dtype(np.float64),
  'FloatStorage': np.dtype(np.float32),
  'HalfStorage': np.dtype(np.float16),
  'BFloat16Storage': np.dtype(jnp.bfloat16),
  'LongStorage': np.dtype(np.int64),
  'IntStorage': np.dtype(np.int32),
  'ShortStorage': np.dtype(np.int16),
  'CharStorage': np.dtype(np.int8),
  'ByteStorage': np.dtype(np.uint8),
  'BoolStorage': np.dtype(np.bool_),
}
# What reading something that is damaged, or was never a pickle, ends with.
_DAMAGED = (
  ArithmeticError,
  AssertionError,
  AttributeError,
  EOFError,
  LookupError,
  MemoryError,
  NotImplementedError,
  OSError,
  RuntimeError,
  TypeError,
  ValueError,
  pickle.UnpicklingError,
  struct.error,
  zipfile.BadZipFile,
)


_KEYS = (str, int, float, bytes, type(None), np.dtype)


class _Storage(NamedTuple):
  """A run of numbers somewhere in the file."""

  key: str
  dtype: np.dtype
  first: int  # of those of the file that belong to this view
  size: int


class _Tensor(NamedTuple):
  """A tensor whose numbers are still in the file."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


# Returns all numbers of the storage with a key.
_ReadNumbers = Callable[[str, np.dtype], np.ndarray]


def read_state_dict(path: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a network that `torch.save` wrote.

  They may be a `state_dict` alone, or in a training program's checkpoint
  under one of timm's names; averaged weights are preferred, as timm does.

  Args:
    path: of the file.

  Returns:
    The tensors by name, which share memory where they did when saved.

  Raises:
    UserError: the file is damaged or not of PyTorch, has no `state_dict`, or
      names what is neither a tensor nor a plain container.
  """
  try:
    with open(path, 'rb') as file:
      is_zip = file.read(len(_ZIP)) == _ZIP
      file.seek(0)
      saved, read_numbers = (_read_zip if is_zip else _read_stream)(file, path)
      return {
        name: _array(tensor, read_numbers)
        for name, tensor in _find_state_dict(saved, path).items()
      }
  except UserError:
    raise
  except _DAMAGED as error:
    raise UserError(
      f'{path} is cut short, damaged, or not a file of PyTorch '
      f'({type(error).__name__}: {one_line(error)}); fetch it again'
    ) from error


def _read_zip(file: BinaryIO, path: str) -> tuple[Any, _ReadNumbers]:
  archive = zipfile.ZipFile(file)

  def read(name):
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
      raise ValueError(f'{name} is compressed, which PyTorch does not do')
    return archive.read(name)

  (pickled,) = (n for n in archive.namelist() if n.endswith('/data.pkl'))
  root = pickled.removesuffix('data.pkl')
  byte_order = '<'
  if f'{root}byteorder' in archive.namelist():
    byte_order = {b'little': '<', b'big': '>'}[read(f'{root}byteorder')]
  saved = _Unpickler(io.BytesIO(read(pickled)), path).load()
  return saved, lambda key, dtype: np.frombuffer(
    read(f'{root}data/{key}'), dtype.newbyteorder(byte_order)
  )


def _read_stream(file: BinaryIO, path: str) -> tuple[Any, _ReadNumbers]:
  if _Unpickler(file, path).load() != _MAGIC:
    raise ValueError('it does not begin with the number that PyTorch writes')
  _Unpickler(file, path).load()  # version of the format
  _Unpickler(file, path).load()  # of the machine; numbers are little-endian
  unpickler = _Unpickler(file, path)
  saved = unpickler.load()
  keys = list(map(_key, _Unpickler(file, path).load()))
  end = os.fstat(file.fileno()).st_size
  positions = {}
  for key in keys:
    (size,) = struct.unpack('<q', file.read(8))
    positions[key] = file.tell(), size
    num_bytes = size * unpickler.dtypes[key].itemsize
    if not 0 <= num_bytes <= end - file.tell():
      raise EOFError(f'the file ends within storage {key}')
    file.seek(num_bytes, os.SEEK_CUR)

  def read_numbers(key, dtype):
    start, size = positions[key]
    file.seek(start)
    return np.frombuffer(
      file.read(size * dtype.itemsize), dtype.newbyteorder('<')
    )

  return saved, read_numbers


class _Unpickler(pickle._Unpickler):
  """Unpickles tensors, as positions in the file, and plain containers.

  Each name that a pickle uses gets an object of its own, so that nothing it
  does to the object remains. This is the unpickler that is written in Python,
  because a few damaged bytes make the one written in C fill the memory.
  """

  def __init__(self, file: BinaryIO, path: str):
    super().__init__(file, encoding='utf-8')
    self._path = path
    self.dtypes: dict[str, np.dtype] = {}  # of the storages met, by key

  def find_class(self, module: str, name: str) -> Any:
    if module in ('torch', 'torch.cuda') and name in _DTYPES:
      return _DTYPES[name]
    match f'{module}.{name}':
      case 'torch._utils._rebuild_tensor' | 'torch._utils._rebuild_tensor_v2':
        return lambda *arguments: _Tensor(*arguments[:4])
      case (
        'torch._utils._rebuild_parameter'
        | 'torch._utils._rebuild_parameter_with_state'
      ):
        return lambda tensor, *_: tensor
      case 'collections.OrderedDict':
        return lambda items=(): collections.OrderedDict(
          (_key(key), value) for key, value in items
        )
      case 'builtins.set':
        return lambda items=(): set(map(_key, items))
      case 'torch.Size':
        return tuple
      case 'argparse.Namespace':  # timm's `args`, which nothing here reads
        return type('Namespace', (), {})
    raise UserError(
      f'{self._path} is refused: it names {f"{module}.{name}"!r}, and only '
      'tensors and plain containers are read; save only its state_dict'
    )

  def persistent_load(self, saved_id: Any) -> _Storage:
    kind, dtype, key, _, size, *views = saved_id
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise pickle.UnpicklingError('there is a storage of other things')
    self.dtypes[_key(key)] = dtype
    first = 0
    if views and views[0] is not None:  # (its own key, its place, its size)
      _, first, size = views[0]
    return _Storage(key, dtype, first, size)

  def load_dict(self):
    items = self.pop_mark()
    keys = map(_key, items[::2])
    self.append(dict(zip(keys, items[1::2], strict=True)))

  def load_setitem(self):
    _key(self.stack[-2])
    super().load_setitem()

  def load_setitems(self):
    list(map(_key, self.stack[::2]))
    super().load_setitems()

  def load_additems(self):
    list(map(_key, self.stack))
    super().load_additems()

  def load_frozenset(self):
    self.append(frozenset(map(_key, self.pop_mark())))

  def load_bytearray8(self):
    # Takes the memory that it claims to need before it reads.
    raise pickle.UnpicklingError('there is a bytearray, which PyTorch has not')

  dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
    **pickle._Unpickler.dispatch,
    pickle.DICT[0]: load_dict,
    pickle.SETITEM[0]: load_setitem,
    pickle.SETITEMS[0]: load_setitems,
    pickle.ADDITEMS[0]: load_additems,
    pickle.FROZENSET[0]: load_frozenset,
    pickle.BYTEARRAY8[0]: load_bytearray8,
  }


def _key(key):
  """Returns a key of a dict or set if hashing it takes no time.

  Tuples of tuples, each ten times in the next, would take for ever.
  """
  items = key if type(key) is tuple else (key,)
  if not all(isinstance(item, _KEYS) for item in items):
    raise pickle.UnpicklingError(f'there is a key of type {type(key).__name__}')
  return key


def _find_state_dict(saved, path):
  """Returns the tensors by name, without what a training program adds."""
  found = saved
  if isinstance(saved, dict):
    wrapped = [saved[key] for key in _WRAPPERS if saved.get(key) is not None]
    found = wrapped[0] if wrapped else saved
  if not isinstance(found, dict) or not found:
    raise UserError(
      f'{path} holds a {type(found).__name__}, not weights by name; save the '
      'state_dict of the network'
    )
  others = [str(k) for k, v in found.items() if not isinstance(v, _Tensor)]
  if others:
    raise UserError(
      f'{path} has no state_dict: {", ".join(others[:5])} are not tensors; it '
      f'may be the whole file or under one of {", ".join(_WRAPPERS)}'
    )
  return {str(name): tensor for name, tensor in found.items()}


def _array(tensor, read_numbers):
  """Returns a view of the numbers, after looking that they are there."""
  storage, offset, shape, strides = tensor
  numbers = read_numbers(storage.key, storage.dtype)
  numbers = numbers[storage.first : storage.first + storage.size]
  positions = (storage.first, storage.size, offset, *shape, *strides)
  if any(type(n) is not int or not 0 <= n < 2**63 for n in positions):
    raise ValueError('the positions of its numbers are not whole numbers')
  last = offset + sum(
    (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
  )
  if 0 not in shape and last >= numbers.size:
    raise EOFError(f'a tensor needs {last + 1} numbers of {numbers.size}')
  if math.prod(shape) > numbers.size:  # which reads some more than once
    raise ValueError(f'a tensor {list(shape)} repeats {numbers.size} numbers')
  return np.lib.stride_tricks.as_strided(
    numbers[offset:],
    shape,
    [stride * numbers.itemsize for stride in strides],
    writeable=False,
  )
