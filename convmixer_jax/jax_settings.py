"""Settings of JAX that a run does not use, whatever the shell has for them.

A run's figures follow from its config. `JAX_ENABLE_X64`, another generator of
random numbers or another precision of products would change them without a
trace in the run, and resuming in another shell would mix both; if one host of
several had them, the hosts would run different programs. Strict promotion,
transfer guards and checks of NaN refuse what is meant here (a step that is not
finite is skipped and counted).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from convmixer_jax.notes import note

# JAX's own defaults. Those of debugging that change no figure are left alone.
_DEFAULTS = {
  'enable_x64': False,
  'default_matmul_precision': None,
  'default_prng_impl': 'threefry2x32',
  'threefry_partitionable': True,
  'random_seed_offset': 0,
  'numpy_dtype_promotion': 'standard',
  'numpy_rank_promotion': 'allow',
  'transfer_guard': None,
  'transfer_guard_host_to_device': None,
  'transfer_guard_device_to_device': None,
  'transfer_guard_device_to_host': None,
  'debug_nans': False,
  'debug_infs': False,
  'debug_key_reuse': False,
  'disable_jit': False,
  'check_tracer_leaks': False,
}


def use_default_settings() -> None:
  """Sets JAX's defaults in the whole process, of a command; see below."""
  for name in _other_settings():
    jax.config.update(f'jax_{name}', _default_of(name))


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
  """Uses JAX's defaults in the `with` block; also decorates functions.

  A note names the settings that are not used. Afterwards they are as before;
  in other threads they are so meanwhile, except `random_seed_offset`, which
  JAX has for the whole process only.
  """
  with contextlib.ExitStack() as stack:
    for name, value in _other_settings().items():
      manager = getattr(jax, name, None)
      if manager is not None:
        stack.enter_context(manager(_default_of(name)))
      else:
        jax.config.update(f'jax_{name}', _default_of(name))
        stack.callback(jax.config.update, f'jax_{name}', value)
    yield


def _other_settings() -> dict[str, Any]:
  """Returns what differs from the defaults, after a note that it does."""
  others = {}
  for name, default in _DEFAULTS.items():
    value = getattr(jax.config, f'jax_{name}', default)
    if value not in (default, _default_of(name)):
      others[name] = value
  if others:
    listed = ', '.join(f'jax_{name} = {others[name]}' for name in others)
    note(f'settings of JAX without effect here: {listed}; see installation.md')
  return others


def _default_of(name: str) -> Any:
  return 'allow' if name.startswith('transfer_guard') else _DEFAULTS[name]
