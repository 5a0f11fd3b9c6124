"""Whether the machine has a GPU or TPU that JAX does not use."""

import importlib.util
import os
import pathlib
import re
from typing import Any

import jax

_CUDA13_DRIVER = 580  # the first that runs CUDA 13
_GOOGLE = '0x1ae0'  # as a vendor of PCI devices
# Classes of PCI devices that Google's virtual machines have besides TPUs.
_STORAGE_OR_NETWORK = ('0x01', '0x02')


def unused_accelerator(root: pathlib.Path = pathlib.Path('/')) -> str | None:
  """Returns a warning if JAX has only the CPU although there is more.

  Args:
    root: of the file system with the machine's devices.

  Returns:
    None if JAX uses an accelerator, if there is none, or if the user chose the
    CPU (`JAX_PLATFORMS`) or hides the GPUs (`CUDA_VISIBLE_DEVICES`).
  """
  config: Any = jax.config  # its options are added at run time
  if jax.default_backend() != 'cpu' or config.jax_platforms:
    return None
  if _has_tpu(root):
    return _tpu_warning()
  if os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1'):
    return None
  return _gpu_warning(root)


def _gpu_warning(root):
  found = 'this machine has an NVIDIA GPU, but JAX uses only the CPU'
  if not _has_gpu_device(root):
    if not any(root.glob('proc/driver/nvidia/gpus/*')):
      return None
    return (
      f'{found}: no /dev/nvidia0 is visible here; if this is a container, '
      'start it with the GPU (docker run --gpus=all)'
    )
  for cuda in ('cuda13', 'cuda12'):
    if _is_installed(f'jax_{cuda}_plugin'):
      return (
        f'{found}, although jax[{cuda}] is installed; see why: nvidia-smi; '
        'python -c "import jax; jax.devices(\'cuda\')"'
      )
  is_new = (_driver_version(root) or 0) >= _CUDA13_DRIVER
  return f'{found}; {_install("cuda13" if is_new else "cuda12")}'


def _tpu_warning():
  found = 'this machine has a TPU, but JAX uses only the CPU'
  if _is_installed('libtpu'):
    return (
      f'{found}, although libtpu is installed; another process may use the '
      'TPU; see why: python -c "import jax; jax.devices(\'tpu\')"'
    )
  return f'{found}; {_install("tpu")}'


def _install(extra):
  return f"install its support: pip install 'jax[{extra}]=={jax.__version__}'"


def _has_gpu_device(root):
  if any(root.glob('dev/nvidia[0-9]*')):
    return True
  # Windows' subsystem for Linux has one device for GPUs of all vendors.
  wsl = root / 'dev' / 'dxg', root / 'usr' / 'lib' / 'wsl' / 'lib'
  return wsl[0].exists() and any(wsl[1].glob('libcuda.so*'))


def _has_tpu(root):
  if any(root.glob('dev/accel[0-9]*')):
    return True
  if not any(root.glob('dev/vfio/[0-9]*')):
    return False
  for vendor in root.glob('sys/bus/pci/devices/*/vendor'):
    kind = _read(vendor.with_name('class'))
    if _read(vendor).strip() == _GOOGLE and not kind.startswith(
      _STORAGE_OR_NETWORK
    ):
      return True
  return False


def _driver_version(root):
  """Returns the major version of NVIDIA's driver, None if unknown."""
  text = _read(root / 'proc' / 'driver' / 'nvidia' / 'version')
  match = re.search(r'\s(\d{3,})\.\d', text)
  return int(match[1]) if match else None


def _read(path):
  try:
    return path.read_text(errors='replace')
  except OSError:
    return ''


def _is_installed(module):
  return importlib.util.find_spec(module) is not None
