"""The cache of compiled code, for the C++ kernels and for JAX.

Its directory is $CONVMIXER_JAX_CACHE, else $XDG_CACHE_HOME/convmixer_jax, else
~/.cache/convmixer_jax.
"""

import hashlib
import os
import pathlib
import platform

import jax


def cache_dir() -> pathlib.Path:
  """Returns the cache directory, which may not exist yet."""
  directory = os.environ.get('CONVMIXER_JAX_CACHE')
  if directory:
    return pathlib.Path(directory)
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'convmixer_jax'


def enable_compilation_cache() -> None:
  """Makes JAX store compiled programs, so that the next start compiles nothing.

  Does nothing if the user has set a directory, for example by
  `$JAX_COMPILATION_CACHE_DIR`. Each type of CPU has its own directory: machines
  may share a home directory, and code for one CPU may be illegal on another.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  directory = cache_dir() / f'xla_{_cpu_hash()}'
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _cpu_hash() -> str:
  cpu = platform.machine()
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    lines = [platform.processor()]
  relevant = ('model name', 'flags', 'Features', 'CPU part')
  cpu += ''.join(sorted({line for line in lines if line.startswith(relevant)}))
  return hashlib.sha256(cpu.encode()).hexdigest()[:16]
