"""A trace of a few steps, for TensorBoard's profile plugin or Perfetto."""

import pathlib
import tempfile

import jax
from etils import epath

from convmixer_jax.checkpoints.workdir import write_whole

_SKIPPED_STEPS, _TRACED_STEPS = 10, 5


class Profile:
  """Traces 5 steps, after the 10 that compile and warm up.

  Use it in a `with` block, which ends a trace that has not ended.

  Raises:
    UserError: the trace cannot be written.
  """

  def __init__(self, workdir: epath.Path, first_step: int):
    """Prepares the trace; nothing is traced yet.

    Args:
      workdir: of the run; each process writes its trace there.
      first_step: updates made before this start.
    """
    self._workdir = workdir
    self._start = first_step + _SKIPPED_STEPS
    # Of the trace, while one is recorded.
    self._directory: tempfile.TemporaryDirectory[str] | None = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._directory:
      self._stop()

  def __call__(self, step: int) -> None:
    """Starts or ends the trace after `step` was dispatched."""
    if step == self._start:
      # The profiler writes local files only.
      directory = tempfile.TemporaryDirectory()
      try:
        jax.profiler.start_trace(directory.name)
      except BaseException:
        directory.cleanup()
        raise
      self._directory = directory
    elif self._directory and step == self._start + _TRACED_STEPS:
      self._stop()

  def _stop(self):
    temporary, self._directory = self._directory, None
    jax.profiler.stop_trace()
    with temporary as directory:
      for path in pathlib.Path(directory).rglob('*'):
        if path.is_file():
          target = self._workdir / path.relative_to(directory)
          target.parent.mkdir(parents=True, exist_ok=True)
          write_whole(target, path.read_bytes())
