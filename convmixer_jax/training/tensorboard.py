"""TensorBoard's files of a run: scalars, pictures, text and hyperparameters.

TensorBoard draws lines of several runs in one chart if they have the same tag,
and takes each directory for a run. So the metrics of training and of evaluation
are in directories of their own: `train/` and `eval/`.
"""

import contextlib
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np
import tensorboardX
from absl import logging
from etils import epath
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import register_writer_factory
from tensorboardX.summary import hparams

from convmixer_jax import files
from convmixer_jax.config import flatten

_SCHEME = 'run'  # has tensorboardX open files by `_EventFiles`
_FLUSH_SECONDS = 10
_BUCKET_FILE_BYTES = 2**23  # uploaded again at each flush


class _LocalFile:
  """An event file on this machine.

  An error would end tensorboardX's thread, and the run would wait for it
  without limit. So it is reported once, and nothing more is written.
  """

  def __init__(self, path: str):
    self._path = path
    self._file = open(path, 'wb')  # noqa: SIM115

  def write(self, content: bytes) -> None:
    self._call('write', content)

  def flush(self) -> None:
    self._call('flush')

  def close(self) -> None:
    self._call('close')

  def _call(self, method, *arguments):
    if self._file is None:
      return
    try:
      getattr(self._file, method)(*arguments)
    except OSError as error:
      logging.warning(
        '%s cannot be written to (%s): TensorBoard will lack the rest',
        self._path,
        error.strerror or error,
      )
      with contextlib.suppress(OSError):
        self._file.close()
      self._file = None


class _BucketFile:
  """An event file in a bucket, where nothing can be appended to a file.

  TensorBoard reads a directory's event files in the order of their names, so
  what does not fit into one continues in the next.
  """

  def __init__(self, path: str):
    self._path = epath.Path(path)
    self._content = bytearray()
    self._uploaded = self._number = 0

  def write(self, content: bytes) -> None:
    self._content += content

  def flush(self) -> None:
    if self._uploaded == len(self._content):
      return
    path = self._path
    if self._number:
      path = path.with_name(f'{path.name}.{self._number:06}')
    # The next flush tries again; a checkpoint that cannot be written ends the
    # run.
    with contextlib.suppress(OSError):
      files.write(path, bytes(self._content))
      self._uploaded = len(self._content)
      if self._uploaded >= _BUCKET_FILE_BYTES:
        self._number += 1
        self._content.clear()
        self._uploaded = 0

  def close(self) -> None:
    """Does nothing: tensorboardX flushes before."""


class _EventFiles:
  """Opens event files, of which no error reaches tensorboardX."""

  def open(self, path: str) -> _LocalFile | _BucketFile:
    path = path.removeprefix(f'{_SCHEME}:')
    is_remote = files.is_in_bucket(epath.Path(path))
    return _BucketFile(path) if is_remote else _LocalFile(path)

  def directory_check(self, path: str) -> None:
    """Does nothing: the directory of a run is there."""


register_writer_factory(_SCHEME, _EventFiles())


_TRAIN, _EVAL = 'train', 'eval'


def place(name: str) -> tuple[str, str]:
  """Returns the directory of a scalar and its tag there.

  A tag's first part is the heading that TensorBoard shows it under.

  Args:
    name: such as 'eval_loss' or 'learning_rate'.
  """
  for part in (_TRAIN, _EVAL):
    if name.startswith(f'{part}_'):
      return part, f'metrics/{name.removeprefix(f"{part}_")}'
  heading = 'speed' if name.endswith('_per_sec') else 'optimizer'
  return _TRAIN, f'{heading}/{name}'


class TensorBoardWriter:
  """Writes three event files, in the background.

  A start of a resumed run hides what an earlier start wrote after the step that
  this one resumes from.
  """

  def __init__(self, workdir: epath.Path, first_step: int):
    """Opens the event files.

    Args:
      workdir: of the run.
      first_step: updates made before this start.
    """
    self._writers = {}
    for part in ('', _TRAIN, _EVAL):
      directory = workdir / part if part else workdir
      if not files.is_in_bucket(directory):
        directory.mkdir(parents=True, exist_ok=True)
      self._writers[part] = tensorboardX.SummaryWriter(
        f'{_SCHEME}:{directory}',
        purge_step=first_step + 1 if first_step else None,
        flush_secs=_FLUSH_SECONDS,
        # Its name has the time in seconds only, in which another may start.
        filename_suffix=f'.{first_step}',
      )
    self._writer = self._writers['']
    self._session_end = None

  def config(
    self, config: ml_collections.ConfigDict, metrics: Sequence[str]
  ) -> None:
    """Writes the config as text, and its values as hyperparameters.

    Args:
      config: of the run.
      metrics: names of the scalars that runs are compared by.
    """
    text = config.to_json_best_effort(indent=2, sort_keys=False)
    indented = ''.join(f'    {line}\n' for line in text.splitlines())
    self._writer.add_text('config', indented, 0)
    values = {
      key: value if isinstance(value, (bool, int, float, str)) else str(value)
      for key, value in flatten(config).items()
    }
    _, start, end = hparams(values, {})
    self._writer.file_writer.add_summary(_experiment(values, metrics))
    self._writer.file_writer.add_summary(start)
    self._session_end = end

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes values of `step` by name; see `place`."""
    for name, value in values.items():
      part, tag = place(name)
      self._writers[part].add_scalar(tag, value, step)

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures `[H, W, C]` in uint8, by name."""
    for name, image in images.items():
      self._writer.add_image(name, image, step, dataformats='HWC')

  def close(self) -> None:
    """Writes what is left."""
    if self._session_end:
      self._writer.file_writer.add_summary(self._session_end)
    for writer in self._writers.values():
      writer.close()


def _experiment(values, metrics):
  """Returns the summary of hyperparameters and metrics with their places."""
  summary, _, _ = hparams(values, {})
  plugin = summary.value[0].metadata.plugin_data
  content = HParamsPluginData.FromString(plugin.content)
  for name in metrics:
    group, tag = place(name)
    info = content.experiment.metric_infos.add(display_name=name)
    info.name.group, info.name.tag = group, tag
  plugin.content = content.SerializeToString()
  return summary
