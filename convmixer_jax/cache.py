"""The cache of compiled code, for the C++ kernels and for JAX.

Its directory is $CONVMIXER_JAX_CACHE, else $XDG_CACHE_HOME/convmixer_jax, else
~/.cache/convmixer_jax.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import sys
import warnings

import jax

_NOTES = {
  'reading': 'compiled programs in {} are damaged; they are compiled again',
  'writing': 'compiled programs cannot be kept in {}; the next start compiles '
  'them again',
}


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
  _report_in_one_line()
  if jax.config.jax_compilation_cache_dir is not None:
    return
  directory = cache_dir() / f'xla_{_cpu_hash()}'
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _report_in_one_line() -> None:
  """Makes JAX compile damaged entries again, with one line for all of them.

  It does not write entries atomically, nor replace them: without this, each
  start after a process was killed would warn of the same ones.
  """
  if getattr(warnings.showwarning, 'is_for_cache', False):
    return
  show = warnings.showwarning
  reported = set()

  def show_in_one_line(message, *arguments, **keywords):
    match = re.match(
      "Error (reading|writing) persistent compilation cache entry for '(.*?)'",
      str(message),
    )
    directory = jax.config.jax_compilation_cache_dir
    if not match or not directory:
      show(message, *arguments, **keywords)
      return
    kind, name = match.groups()
    if kind == 'reading':
      _delete_entries(directory, name)
    if kind not in reported:
      reported.add(kind)
      print(f'note: {_NOTES[kind].format(directory)}', file=sys.stderr)

  show_in_one_line.is_for_cache = True
  warnings.showwarning = show_in_one_line


def _delete_entries(directory: str, name: str) -> None:
  """Deletes the entries of all programs with a name."""
  with contextlib.suppress(OSError):
    for file in os.listdir(directory):
      if file.startswith(f'{name}-'):
        os.unlink(os.path.join(directory, file))


def _cpu_hash() -> str:
  cpu = platform.machine()
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    lines = [platform.processor()]
  relevant = ('model name', 'flags', 'Features', 'CPU part')
  cpu += ''.join(sorted({line for line in lines if line.startswith(relevant)}))
  return hashlib.sha256(cpu.encode()).hexdigest()[:16]
