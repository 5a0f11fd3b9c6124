"""A process that a benchmark asks to work, and that answers in JSON."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any


class WorkerProcess:
  """Reads requests on its standard input; a line of JSON answers each.

  Raises:
    OSError: on construction, if the command cannot be started.
  """

  def __init__(self, command: Sequence[str]):
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

  def ask(self, request: bytes) -> dict[str, Any]:
    """Sends a request and waits for the answer.

    Raises:
      OSError: the answer is an `error`, or the process takes no request.
      ValueError: the process died; it gave no JSON.
    """
    self._process.stdin.write(request)
    self._process.stdin.flush()
    answer = json.loads(self._process.stdout.readline())
    if 'error' in answer:
      raise OSError(answer['error'])
    return answer

  def close(self) -> None:
    """Lets the process end, and waits for it."""
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()
