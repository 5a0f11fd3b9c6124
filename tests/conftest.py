"""What many tests start from: a config of a network that trains in seconds."""

import ctypes
import fcntl
import gc
import os
import pathlib
import platform
from collections.abc import Iterator

import forks
import jax
import ml_collections
import pytest
from tiny_archives import write_train_tar, write_validation_tar

from configs import default


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory) -> Iterator[None]:
  """Lets runs of the same network within the tests compile it once."""
  directory = str(tmp_path_factory.mktemp('compilation_cache'))
  jax.config.update('jax_compilation_cache_dir', directory)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  yield
  forks.clean()


@pytest.fixture(scope='module', autouse=True)
def bounded_memory() -> Iterator[None]:
  """Frees what JAX has compiled when a process has grown to 1.5 GiB."""
  yield
  statm = pathlib.Path('/proc/self/statm')
  if not statm.exists():
    return
  resident = int(statm.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
  if resident > 1.5 * 2**30:
    jax.clear_caches()
    gc.collect()
    if platform.libc_ver()[0] == 'glibc':
      ctypes.CDLL(None).malloc_trim(0)  # which keeps what is freed


@pytest.fixture
def config() -> ml_collections.ConfigDict:
  """A tiny ConvMixer on digits, with every augmentation on."""
  config = default.get_config()
  config.batch_size = 64
  config.num_epochs = 1
  config.model.width = 8
  config.model.depth = 2
  config.model.kernel_size = 3
  config.augment.rand_augment.num_ops = 2
  config.mixup.mixup_alpha = 0.5
  config.mixup.cutmix_alpha = 0.5
  config.mixup.group_size = 8
  config.erasing.probability = 0.25
  config.label_smoothing = 0.1
  config.log_every_steps = 5
  config.input.num_threads = 2
  return config


@pytest.fixture(scope='session')
def manual_dir(tmp_path_factory) -> str:
  """A directory with ImageNet's two tars, in small."""
  directory = tmp_path_factory.mktemp('manual')
  write_train_tar(directory)
  write_validation_tar(directory)
  return str(directory)


@pytest.fixture(scope='session')
def trained_run(tmp_path_factory) -> pathlib.Path:
  """The directory of a run on digits; nobody may write to it.

  40 steps, an epoch being 16: checkpoints after 16, 25, 32 and 40, of which all
  but 25 were evaluated.
  """
  from convmixer_jax.training import loop

  config = default.get_config()
  config.batch_size, config.num_steps = 90, 40
  config.model.width, config.model.depth, config.model.kernel_size = 16, 2, 3
  config.augment.crop_scale, config.augment.flip = (0.6, 1.0), 0.0
  config.checkpoint_every_steps, config.keep_checkpoints = 25, 4
  config.log_every_steps = 20
  config.input.num_threads = 2
  shared = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    shared = shared.parent  # of all workers
  directory, done = shared / 'trained_run', shared / 'trained_run.done'
  with (shared / 'trained_run.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not done.exists():
      loop.train_and_evaluate(config, str(directory))
      done.touch()
  return directory
