"""Which layers of a network an operation's backend is chosen for.

A network is traced once, only to find them: `collect` has the reasons for which
kernels are not used noted with the layer's name, in place of warnings. What was
noted is not warned of again when the network is traced to be run.
"""

import contextlib
import contextvars
from collections.abc import Iterator

Reason = tuple[str, str]  # of a backend, why it is not used

_layer: contextvars.ContextVar[str] = contextvars.ContextVar(
  'layer', default=''
)
_found: contextvars.ContextVar[dict[Reason, list[str]] | None] = (
  contextvars.ContextVar('found', default=None)
)
_noted: set[Reason] = set()


@contextlib.contextmanager
def in_layer(name: str) -> Iterator[None]:
  """Names the layer that the operations of this context are part of.

  Args:
    name: such as 'blocks/depthwise'; '' leaves the name as it is.
  """
  token = _layer.set(name or _layer.get())
  try:
    yield
  finally:
    _layer.reset(token)


@contextlib.contextmanager
def collect() -> Iterator[dict[Reason, list[str]]]:
  """Yields the layers by backend and reason, which are complete at the end."""
  found: dict[Reason, list[str]] = {}
  token = _found.set(found)
  try:
    yield found
  finally:
    _found.reset(token)
    _noted.update(found)


def note(backend: str, reason: str) -> bool:
  """Notes that the layer of this context is computed without a backend.

  Returns:
    False if nothing was noted, so that a warning is due.
  """
  found = _found.get()
  if found is None:
    return (backend, reason) in _noted
  layers = found.setdefault((backend, reason), [])
  if _layer.get() not in layers:
    layers.append(_layer.get())
  return True
