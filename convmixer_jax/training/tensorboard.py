"""TensorBoard's files of a run: scalars, pictures, text and hyperparameters."""

from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np
import tensorboardX
from etils import epath
from tensorboardX.summary import hparams

from convmixer_jax.config import flatten

_FLUSH_SECONDS = 10


class TensorBoardWriter:
  """Writes one event file, in the background.

  A start of a resumed run hides what an earlier start wrote after the step that
  this one resumes from.
  """

  def __init__(self, workdir: epath.Path, first_step: int):
    """Opens the event file.

    Args:
      workdir: of the run.
      first_step: updates made before this start.
    """
    self._writer = tensorboardX.SummaryWriter(
      str(workdir),
      purge_step=first_step + 1 if first_step else None,
      flush_secs=_FLUSH_SECONDS,
      # Its name has the time in seconds only, in which another may start.
      filename_suffix=f'.{first_step}',
    )
    self._session_end = None

  def config(
    self, config: ml_collections.ConfigDict, metrics: Sequence[str]
  ) -> None:
    """Writes the config as text, and its values as hyperparameters.

    Args:
      config: of the run.
      metrics: the scalars that runs are compared by.
    """
    text = config.to_json_best_effort(indent=2, sort_keys=False)
    indented = ''.join(f'    {line}\n' for line in text.splitlines())
    self._writer.add_text('config', indented, 0)
    values = {
      key: value if isinstance(value, (bool, int, float, str)) else str(value)
      for key, value in flatten(config).items()
    }
    experiment, start, end = hparams(values, dict.fromkeys(metrics))
    self._writer.file_writer.add_summary(experiment)
    self._writer.file_writer.add_summary(start)
    self._session_end = end

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes values of `step` by name."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures `[H, W, C]` in uint8, by name."""
    for name, image in images.items():
      self._writer.add_image(name, image, step, dataformats='HWC')

  def close(self) -> None:
    """Writes what is left."""
    if self._session_end:
      self._writer.file_writer.add_summary(self._session_end)
    self._writer.close()
