"""The cache of compiled code, for the C++ kernels and for JAX.

Its directory is $CONVMIXER_JAX_CACHE, else $XDG_CACHE_HOME/convmixer_jax, else
~/.cache/convmixer_jax; and where that cannot be written, one of the user's own
in the temporary directory.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import stat
import tempfile
import warnings
from typing import Any

import jax

from convmixer_jax.notes import note

_MARK = 'is_for_cache'  # attribute of our own function
_NOTES = {
  'reading': 'compiled programs in {} are damaged; they are compiled again',
  'writing': 'compiled programs cannot be kept in {}; the next start compiles '
  'them again',
}


def cache_dir() -> pathlib.Path:
  """Returns the cache directory, which may not exist yet.

  Where no directory can be written it is the first that was tried; whoever uses
  it has to do without.
  """
  directory = _wanted()
  if directory is not None and _is_usable(directory):
    return directory
  instead = _temporary()
  reason = 'there is no home directory'
  if directory is not None:
    reason = f'{directory} cannot be written to'
  now = f'it is {instead}' if instead else 'compiled code is not kept'
  note(f'{reason} for the cache: {now}; $CONVMIXER_JAX_CACHE chooses another')
  return instead or directory or pathlib.Path(os.devnull)


def enable_compilation_cache() -> None:
  """Makes JAX store compiled programs, so that the next start compiles nothing.

  Does nothing if the user has set a directory, for example by
  `$JAX_COMPILATION_CACHE_DIR`, or where it cannot be written. Each type of CPU
  has its own directory: machines may share a home directory, and code for one
  CPU may be illegal on another.
  """
  _report_in_one_line()
  if _chosen_directory() is not None:
    return
  directory = cache_dir() / f'xla_{_cpu_hash()}'
  if not _is_usable(directory):
    return
  jax.config.update('jax_compilation_cache_dir', str(directory))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _chosen_directory() -> str | None:
  """Returns the directory of JAX's cache; None if it has none."""
  config: Any = jax.config  # its options are added at run time
  return config.jax_compilation_cache_dir


def _report_in_one_line() -> None:
  """Makes JAX compile damaged entries again, with one line for all of them.

  It does not write entries atomically, nor replace them: without this, each
  start after a process was killed would warn of the same ones.
  """
  if getattr(warnings.showwarning, _MARK, False):
    return
  show = warnings.showwarning

  def show_in_one_line(message, *arguments, **keywords):
    match = re.match(
      "Error (reading|writing) persistent compilation cache entry for '(.*?)'",
      str(message),
    )
    directory = _chosen_directory()
    if not match or not directory:
      show(message, *arguments, **keywords)
      return
    kind, name = match.groups()
    if kind == 'reading':
      _delete_entries(directory, name)
    note(_NOTES[kind].format(directory))

  setattr(show_in_one_line, _MARK, True)
  warnings.showwarning = show_in_one_line


def _delete_entries(directory: str, name: str) -> None:
  """Deletes the entries of all programs with a name: JAX names no file."""
  with contextlib.suppress(OSError):
    for file in os.listdir(directory):
      if file.startswith(f'{name}-'):
        with contextlib.suppress(FileNotFoundError):  # by another process
          os.unlink(os.path.join(directory, file))


def _wanted() -> pathlib.Path | None:
  """Returns what the environment names; None without a home directory."""
  directory = os.environ.get('CONVMIXER_JAX_CACHE')
  if directory:
    return pathlib.Path(directory)
  base = os.environ.get('XDG_CACHE_HOME')
  if base:
    return pathlib.Path(base) / 'convmixer_jax'
  try:
    return pathlib.Path.home() / '.cache' / 'convmixer_jax'
  except (RuntimeError, KeyError):  # no HOME, and a user without an entry
    return None


def _is_usable(directory: pathlib.Path) -> bool:
  """Whether files can be read and written in it once it is made."""
  for path in (directory, *directory.absolute().parents):
    try:
      if path.exists():
        return path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK)
    except OSError:  # its parent cannot be looked into
      return False
  return False


def _temporary() -> pathlib.Path | None:
  """Returns a directory that only this user can write; None if there is none.

  Code is loaded from it, so one that another user prepared is not used.
  """
  if not hasattr(os, 'getuid'):
    return None
  try:
    path = pathlib.Path(tempfile.gettempdir()) / f'convmixer_jax_{os.getuid()}'
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
  except OSError:
    return None
  is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
  return path if is_ours and not found.st_mode & 0o022 else None


def _cpu_hash() -> str:
  cpu = platform.machine()
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    lines = [platform.processor()]
  relevant = ('model name', 'flags', 'Features', 'CPU part')
  cpu += ''.join(sorted({line for line in lines if line.startswith(relevant)}))
  return hashlib.sha256(cpu.encode()).hexdigest()[:16]
