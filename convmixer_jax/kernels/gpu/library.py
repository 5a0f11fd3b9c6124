"""Makes the GPU kernels ready: compiles, registers and loads them.

XLA calls one handler, in host/launch.cc, for every kernel. It finds the code of
a kernel by the name of its module, so a process that only compiles programs for
a GPU that it does not have needs no code.
"""

import ctypes
import functools
import pathlib

import jax

from convmixer_jax.kernels.cpu.build import build
from convmixer_jax.kernels.gpu import compiler, shared_memory
from convmixer_jax.kernels.gpu.instances import Instance

HANDLER = 'convmixer_gpu_launch'
_HOST_DIR = pathlib.Path(__file__).parent / 'host'
_CAPABILITIES = (8, 0), (10, 3)  # from, to
_REASON_BYTES = 1024


def module_name(instance: Instance) -> str:
  """Returns the name by which the handler knows the code of an instance."""
  return _module_name(instance.source, instance.defines)


@functools.cache
def _module_name(source, defines):
  stem = pathlib.Path(source).stem
  return f'{stem}_{compiler.source_hash(source, dict(defines))}'


def unavailable(instance: Instance) -> str | None:
  """Returns why the GPUs of this process cannot run an instance, or None.

  If they can, the instance has been compiled and loaded. A process without a
  GPU can only compile programs for one, after `compile_for_absent_gpus`.
  """
  if not (compiler.SOURCE_DIR / instance.source).exists():
    return f'{compiler.SOURCE_DIR} has no {instance.source}'
  if jax.default_backend() == 'gpu':
    needs = tuple(
      (launch.entry, launch.shared_bytes) for launch in instance.launches
    )
    return _unavailable_here(instance.source, instance.defines, needs)
  if _is_for_absent_gpus:
    return _handler_or_reason()[1]
  return 'this process has no NVIDIA GPU'


def shared_bytes() -> int:
  """Returns the bytes of shared memory that a thread block may have.

  On all GPUs of this process; without one, on all GPUs of data centres.
  """
  return min(
    (shared_memory.limit(gpu.compute_capability) for gpu in _gpus()),
    default=shared_memory.OF_DATA_CENTRES,
  )


def _gpus():
  return [gpu for gpu in jax.local_devices() if gpu.platform == 'gpu']


_is_for_absent_gpus = False


def compile_for_absent_gpus() -> None:
  """Makes the kernels part of programs that this process compiles for GPUs.

  For a process without a GPU: it can compile such programs, but not run them.
  """
  global _is_for_absent_gpus
  _is_for_absent_gpus = True


@functools.cache
def _handler_or_reason() -> tuple[ctypes.CDLL | None, str | None]:
  """Returns the library with the handler, registered; or why there is none."""
  try:
    library = ctypes.CDLL(str(build('launch', directory=_HOST_DIR)))
  except RuntimeError as error:
    return None, str(error)
  except OSError as error:
    return None, f'{error}; set $CONVMIXER_JAX_CACHE'
  jax.ffi.register_ffi_target(
    HANDLER, jax.ffi.pycapsule(library.convmixer_gpu_launch), 'CUDA'
  )
  return library, None


@functools.cache
def _unavailable_here(source, defines, needs):
  gpus = _gpus()
  capabilities = {gpu.compute_capability for gpu in gpus}
  if len(capabilities) != 1:
    return f'GPUs of several kinds: {", ".join(sorted(capabilities))}'
  (capability,) = capabilities
  if reason := _unsuitable(capability, max(size for _, size in needs)):
    return reason
  library, reason = _handler_or_reason()
  if library is None:
    return reason
  try:
    code = compiler.compile_device_code(source, dict(defines), capability)
  except (OSError, RuntimeError) as error:
    return str(error)
  module = _module_name(source, defines).encode()
  library.convmixer_gpu_add(module, code, ctypes.c_size_t(len(code)))
  for gpu in gpus:
    for entry, shared_bytes in needs:
      text = ctypes.create_string_buffer(_REASON_BYTES)
      library.convmixer_gpu_load(
        *(module, entry.encode(), shared_bytes, gpu.local_hardware_id),
        *(text, ctypes.c_size_t(_REASON_BYTES)),
      )
      if text.value:
        return f'{entry} on {gpu}: {text.value.decode(errors="replace")}'
  return None


def _unsuitable(capability: str, shared_bytes: int) -> str | None:
  """Returns why GPUs of a compute capability cannot run a kernel, or None."""
  first, last = _CAPABILITIES
  try:
    major, minor = map(int, capability.split('.'))
  except ValueError:
    return f'{capability} is not the compute capability of an NVIDIA GPU'
  if not first <= (major, minor) <= last:
    return (
      f'the GPU has compute capability {capability}, and they are for '
      f'{".".join(map(str, first))} to {".".join(map(str, last))}'
    )
  limit = shared_memory.limit(capability)
  if shared_bytes > limit:
    return (
      f'one needs {-(-shared_bytes // 1024)} KiB of shared memory, and a GPU '
      f'of compute capability {capability} has {limit // 1024}'
    )
  return None
