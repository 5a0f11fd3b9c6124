"""The warning about a GPU or TPU that JAX does not use, on made-up machines."""

import jax
import pytest

from convmixer_jax.training import accelerators

PCI = 'sys/bus/pci/devices/0000:00:04.0'
DRIVER = 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}.82.07  Mon Oct 27'


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
  """JAX has only the CPU, and no support of accelerators is installed."""
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setattr(accelerators, '_is_installed', lambda module: False)
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', None)
  yield
  jax.config.update('jax_platforms', before)


def warning_with(root, **files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return accelerators.unused_accelerator(root)


@pytest.mark.parametrize(
  ('files', 'expected'),
  [
    ({'dev/nvidia0': ''}, "pip install 'jax[cuda12]=="),
    (
      {'dev/nvidia0': '', 'proc/driver/nvidia/version': DRIVER.format(580)},
      "pip install 'jax[cuda13]==",
    ),
    (
      {'dev/nvidia1': '', 'proc/driver/nvidia/version': DRIVER.format(535)},
      "pip install 'jax[cuda12]==",
    ),
    (
      {'dev/dxg': '', 'usr/lib/wsl/lib/libcuda.so.1': ''},
      "pip install 'jax[cuda12]==",
    ),
    ({'proc/driver/nvidia/gpus/0000:01:00.0': ''}, 'docker run --gpus=all'),
    ({'dev/accel0': ''}, "pip install 'jax[tpu]=="),
    (
      {
        'dev/vfio/0': '',
        f'{PCI}/vendor': '0x1ae0\n',
        f'{PCI}/class': '0x120000\n',
      },
      "pip install 'jax[tpu]==",
    ),
  ],
)
def test_unused_accelerator_is_named_with_the_cure(tmp_path, files, expected):
  warning = warning_with(tmp_path, **files)
  assert expected in warning and 'JAX uses only the CPU' in warning
  assert len(warning.splitlines()) == 1


@pytest.mark.parametrize(
  'files',
  [
    {},
    {'dev/dxg': ''},  # a GPU of another vendor
    {'dev/nvidiactl': '', 'proc/driver/nvidia/version': DRIVER.format(580)},
    {'dev/vfio/vfio': ''},
    # A virtual machine's network card, and another device given to it.
    {
      'dev/vfio/0': '',
      f'{PCI}/vendor': '0x1ae0',
      f'{PCI}/class': '0x020000',
    },
  ],
)
def test_machine_without_an_accelerator_has_no_warning(tmp_path, files):
  assert warning_with(tmp_path, **files) is None


def test_installed_support_that_fails_is_not_installed_again(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(accelerators, '_is_installed', lambda module: True)
  warning = warning_with(tmp_path, **{'dev/nvidia0': ''})
  assert 'pip install' not in warning and 'nvidia-smi' in warning
  warning = warning_with(tmp_path, **{'dev/accel0': ''})
  assert 'pip install' not in warning and 'another process' in warning


def test_choice_of_the_user_is_not_warned_of(tmp_path, monkeypatch):
  files = {'dev/nvidia0': ''}
  with monkeypatch.context() as patch:
    patch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert warning_with(tmp_path, **files) is None
  assert warning_with(tmp_path, **files)
  with monkeypatch.context() as patch:
    patch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert warning_with(tmp_path, **files) is None
  jax.config.update('jax_platforms', 'cpu')
  assert warning_with(tmp_path, **files) is None
