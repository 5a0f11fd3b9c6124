"""Chooses the backend that computes an operation.

A backend is a set of functions, one for each operation that it can compute:
kernels of our own for one platform, or a form that XLA compiles for any. The
backends of this package are in `backends.py`. The rule of the defaults is in
`default_backends`, and nowhere else.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging
from jax import lax

from convmixer_jax.errors import UserError
from convmixer_jax.kernels import named_layers

Operands = tuple[Any, ...]  # arrays, or their shapes and dtypes
Static = Mapping[str, Any]

# The platforms that may have a default of their own, as JAX names them in
# lowering, and in `jax.default_backend()`.
PLATFORMS = {'cpu': 'cpu', 'cuda': 'gpu'}


class BackendUnavailableError(UserError, RuntimeError):
  """A backend that was named cannot compute here; says why in one line."""


def _always_available(
  operation: str, operands: Operands, static: Static
) -> str | None:
  return None


def _always_preferred(
  platform: str, operation: str, operands: Operands, static: Static
) -> bool:
  return True


@dataclasses.dataclass(frozen=True)
class Backend:
  """One way to compute some of the operations.

  Attributes:
    name: the value of `backend` that chooses it.
    functions: by operation. All backends' functions of an operation take the
      same operands and static arguments, and return the same shapes and dtypes.
    platform: JAX's name of the only platform that it is for, such as 'cuda';
      None: any.
    unavailable: returns the reason why it cannot compute an operation with
      these operands and static arguments, or None if it can. It may depend on
      shapes and dtypes, and it may compile: it is called before each use. A
      process that lowers for a platform that it does not have asks too. Each
      reason is logged once, so one that is about a shape has to name it.
    preferred: of a backend for any platform, whether it is a better default
      than those that were registered after it. Takes the platform, one of
      `PLATFORMS` or 'default' for all others, and what `unavailable` takes.
  """

  name: str
  functions: Mapping[str, Callable[..., Any]]
  platform: str | None = None
  unavailable: Callable[[str, Operands, Static], str | None] = _always_available
  preferred: Callable[[str, str, Operands, Static], bool] = _always_preferred


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> None:
  """Makes a backend known.

  Raises:
    ValueError: there is another of this name, or for an unknown platform.
  """
  if backend.name in _backends:
    raise ValueError(f'there are two backends named {backend.name!r}')
  if backend.platform not in (None, *PLATFORMS):
    raise ValueError(
      f'backend {backend.name!r} is for {backend.platform!r}; use one of '
      f'{", ".join(PLATFORMS)}, or add it to them'
    )
  _backends[backend.name] = backend


def backends_of(operation: str) -> tuple[str, ...]:
  """Returns the names of the backends that have an operation."""
  return tuple(
    name
    for name, backend in _backends.items()
    if operation in backend.functions
  )


def call(
  operation: str, backend: str | None, *operands: Any, **static: Any
) -> Any:
  """Computes an operation.

  Args:
    operation: such as 'depthwise_conv'; a key of `Backend.functions`.
    backend: name of the backend, or None for the default of the platform that
      the computation is lowered for; see `default_backends`.
    *operands: arrays, or None where the operation allows it.
    **static: the operation's other arguments.

  Raises:
    ValueError: no backend of this name has the operation.
    BackendUnavailableError: the backend was named, and is unavailable.
  """
  if backend is not None:
    check_backend(operation, backend)
    chosen = _backends[backend]
    if reason := chosen.unavailable(operation, operands, static):
      others = [name for name in backends_of(operation) if name != backend]
      raise BackendUnavailableError(
        f'{operation}: backend {backend!r} is unavailable: '
        f'{" ".join(reason.split())}; else use {", ".join([*others, "None"])}'
      )
    return chosen.functions[operation](*operands, **static)
  return _by_platform(
    operation, operands, static, default_backends(operation, operands, static)
  )


def call_fused(
  operation: str,
  backend: str | None,
  separate: Callable[..., Any],
  *operands: Any,
  **static: Any,
) -> Any:
  """Computes an operation that only kernels of one platform have.

  Args:
    operation: a key of `Backend.functions`.
    backend: as in `call`; of an operation that is part of this one, so that it
      need not have this one.
    separate: a function of the operands that computes the same as several
      operations, wherever no backend has it as one.
    *operands: arrays.
    **static: the operation's other arguments.
  """
  chosen = fused_backends(operation, backend, operands, static)
  if not chosen:
    return separate(*operands)
  return _by_platform(operation, operands, static, chosen, separate)


def fused_backends(
  operation: str, backend: str | None, operands: Operands, static: Static
) -> dict[str, str]:
  """Returns the backends that `call_fused` calls, by platform; may be empty.

  If the CPU's kernels are unavailable, a warning says why. Where those of GPUs
  are, the separate operations warn.
  """
  chosen = {}
  for one in (_backends[name] for name in backends_of(operation)):
    if one.platform is None or backend not in (None, one.name):
      continue
    if backend is None and not _may_be_default(one):
      continue
    reason = one.unavailable(operation, operands, static)
    if reason is None:
      chosen[one.platform] = one.name
    elif one.platform == 'cpu':
      _warn(one.name, reason)
  return chosen


def _by_platform(operation, operands, static, chosen, default=None):
  """Calls the backends that were chosen for platforms, or a function."""
  branches = {
    platform: functools.partial(_backends[name].functions[operation], **static)
    for platform, name in chosen.items()
  }
  if default is not None:
    branches['default'] = default
  if jax.default_backend() == PLATFORMS['cuda']:
    name = chosen.get('cuda') or chosen.get('default') or 'several operations'
    _log_choice(operation, str(getattr(operands[0], 'aval', '')), name)
  if len(branches) == 1:
    return branches['default'](*operands)
  return lax.platform_dependent(*operands, **branches)


@functools.cache
def _log_choice(operation: str, x: str, name: str) -> None:
  """Logs, once, what computes an operation of images x on a GPU."""
  logging.info('%s of %s is computed by the backend %s', operation, x, name)


def check_backend(operation: str, backend: str | None) -> None:
  """Raises ValueError if the backend is neither None nor has the operation."""
  names = backends_of(operation)
  if backend is not None and backend not in names:
    raise ValueError(
      f'{operation}: backend {backend!r} is unknown; use one of '
      f'{", ".join(names)}, or None'
    )


def cpu_or_xla(
  operation: str, backend: str | None, *operands: Any, **static: Any
) -> str | None:
  """Returns the backend, but 'xla' for None if it does not stand for 'cpu'.

  For operations whose plain form autodiff has to see where no kernel computes
  them.

  Args:
    operation: that both backends have.
    backend: a name, or None.
    *operands: of the operation.
    **static: its other arguments.
  """
  if backend is not None:
    return backend
  defaults = default_backends(operation, operands, static)
  return None if 'cpu' in defaults.values() else 'xla'


def default_backends(
  operation: str, operands: Operands, static: Static
) -> dict[str, str]:
  """Returns the names of the backends that compute an operation by default.

  On each platform that is the first available of

  1. the backends for this platform alone. Those for the CPU only count in a
     process without an accelerator: beside one, a CPU has other work than
     compiling kernels for itself.
  2. the backends for any platform that are preferred on this one, in the order
     of their registration.

  If a backend of the first kind is unavailable, and the process has this
  platform, a warning says why, once for each reason; see `named_layers`.

  Args:
    operation: a key of `Backend.functions`.
    operands: arrays, or anything that has their shapes and dtypes.
    static: the operation's other arguments.

  Returns:
    Backends by platform. 'default' is always there, and stands for all
    platforms that are not.
  """
  chosen = {
    platform: _default_on(platform, operation, operands, static)
    for platform in (*PLATFORMS, 'default')
  }
  return {
    platform: name
    for platform, name in chosen.items()
    if platform == 'default' or name != chosen['default']
  }


def _may_be_default(backend):
  """Returns whether a platform's backend may be a default in this process."""
  return backend.platform != 'cpu' or jax.default_backend() == 'cpu'


def _default_on(platform, operation, operands, static):
  candidates = [_backends[name] for name in backends_of(operation)]
  is_here = PLATFORMS.get(platform) == jax.default_backend()
  for backend in candidates:
    if backend.platform != platform or not _may_be_default(backend):
      continue
    reason = backend.unavailable(operation, operands, static)
    if reason is None:
      return backend.name
    if is_here and not named_layers.note(backend.name, reason):
      _warn(backend.name, reason)
  for backend in candidates:
    if backend.platform is None and backend.preferred(
      platform, operation, operands, static
    ):
      return backend.name
  raise ValueError(f'{operation}: no backend computes it on every platform')


@functools.cache
def _warn(name: str, reason: str) -> None:
  """Logs a reason, the first time that it is given."""
  logging.warning(
    'the %s kernels are not used: %s. XLA computes in their place, which may '
    'be several times slower.',
    name,
    reason,
  )
