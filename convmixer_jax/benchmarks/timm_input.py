"""Measures timm's training transform in another Python."""

import json
import pathlib
from collections.abc import Sequence

from convmixer_jax.benchmarks.worker_process import WorkerProcess

_WORKER = pathlib.Path(__file__).with_name('timm_input_worker.py')
HOW_TO_GET_TIMM = (
  'make an environment that has it: python -m venv timm-env && '
  'timm-env/bin/pip install timm; then give '
  '--timm_python=timm-env/bin/python'
)


class TimmInput:
  """A process that has the image files and transforms them with timm.

  Use it in a `with`.

  Attributes:
    missing: why it cannot run, and how to fix that; or None.
    versions: versions by name of the package.
  """

  def __init__(
    self, python: str | None, files: Sequence[bytes], image_size: int
  ):
    self.missing: str | None = None
    self.versions: dict[str, str] = {}
    self._process = None
    if python is None:
      self.missing = f'not measured; {HOW_TO_GET_TIMM}'
      return
    header = {'size': image_size, 'lengths': [len(data) for data in files]}
    try:
      self._process = WorkerProcess([python, str(_WORKER)])
      request = json.dumps(header).encode() + b'\n' + b''.join(files)
      self.versions = self._process.ask(request)['versions']
    except (OSError, ValueError) as error:  # ValueError: it died, no JSON
      self.missing = f'{python} has no timm ({error}); {HOW_TO_GET_TIMM}'

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._process:
      self._process.close()

  def measure(self, part: slice) -> dict[str, float] | None:
    """Transforms some of the files.

    Returns:
      `cpu` and `wall`, in seconds; None if timm is missing.
    """
    if self.missing or self._process is None:
      return None
    return self._process.ask(b'%d %d\n' % (part.start, part.stop))
