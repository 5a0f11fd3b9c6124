"""What is compiled once for a machine, and where it is kept.

That is $CONVMIXER_JAX_CACHE, else $XDG_CACHE_HOME/convmixer_jax, else
~/.cache/convmixer_jax.
"""

import hashlib
import os
import pathlib
import platform

import jax


def cache_dir() -> pathlib.Path:
  """Returns the directory; it may not exist yet."""
  given = os.environ.get('CONVMIXER_JAX_CACHE')
  if given:
    return pathlib.Path(given)
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'convmixer_jax'


def keep_compilations() -> None:
  """Has JAX keep what it compiles, so that the next start compiles nothing.

  Where the user has set one (`$JAX_COMPILATION_CACHE_DIR`, say),
  nothing happens. Machines with other CPUs that share a home directory have
  directories of their own: code for one may be illegal on another.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  directory = cache_dir() / f'xla_{_cpu()}'
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _cpu() -> str:
  cpu = platform.machine()
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    lines = [platform.processor()]
  telling = ('model name', 'flags', 'Features', 'CPU part')
  cpu += ''.join(sorted({line for line in lines if line.startswith(telling)}))
  return hashlib.sha256(cpu.encode()).hexdigest()[:16]
