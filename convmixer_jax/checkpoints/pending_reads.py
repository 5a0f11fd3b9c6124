"""Has Orbax wait for all its reads, also where one of them fails.

It reads arrays together in an event loop. Where one fails it closes the loop at
once, and TensorStore then prints an error for each of the others, from a thread
of its own.
"""

import asyncio
import contextlib
from collections.abc import Iterator


class _WaitingLoop(asyncio.SelectorEventLoop):
  """An event loop that finishes its pending tasks before it closes."""

  def close(self):
    if not self.is_closed() and (pending := asyncio.all_tasks(self)):
      self.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    super().close()


@contextlib.contextmanager
def awaited() -> Iterator[None]:
  """Within it, event loops end their tasks before they are closed."""
  create = asyncio.new_event_loop
  asyncio.new_event_loop = _WaitingLoop
  try:
    yield
  finally:
    asyncio.new_event_loop = create
