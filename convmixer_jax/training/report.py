"""Reports on a run: to the terminal, TensorBoard and `metrics.csv`."""

import concurrent.futures
import math
import os
import sys
import time

import jax
import ml_collections
import tqdm
from clu import metrics as clu_metrics
from etils import epath

from convmixer_jax.checkpoints.metrics_table import MetricsTable
from convmixer_jax.checkpoints.workdir import write_whole
from convmixer_jax.errors import UserError
from convmixer_jax.training.callbacks import CallbackList
from convmixer_jax.training.notebook_bar import (
  in_notebook,
  make_notebook_bar,
)
from convmixer_jax.training.report_line import (
  report_line,
  steps_between_reports,
)
from convmixer_jax.training.tasks import task_of
from convmixer_jax.training.tensorboard import TensorBoardWriter


def make_bar(num_steps: int, first_step: int) -> tqdm.tqdm:
  """Returns a bar for terminals and notebooks; elsewhere it shows nothing.

  Args:
    num_steps: updates in the whole run.
    first_step: updates made before this start.
  """
  options = {'total': num_steps, 'initial': first_step, 'unit': 'step'}
  if in_notebook():
    return make_notebook_bar(**options)
  return tqdm.tqdm(
    **options,
    file=sys.stdout,
    dynamic_ncols=True,
    disable=not sys.stdout.isatty(),
  )


class Reporter:
  """Collects the metrics of steps, and writes them to all outputs.

  The metrics of a step are fetched after the next one was dispatched, so that
  the device never waits for the host.
  """

  def __init__(
    self,
    workdir: epath.Path,
    window: clu_metrics.Collection,
    skipped_in_a_row: int,
    config: ml_collections.ConfigDict,
    *,
    first_step: int,
    num_steps: int,
    steps_per_epoch: int,
    callbacks: CallbackList,
    name: str = '',
  ):
    """Opens the table and the writers, in the first process only.

    Args:
      workdir: of the run.
      window: metrics of steps that are not yet reported.
      skipped_in_a_row: how many of the latest steps were not finite.
      config: the whole config.
      first_step: the step that this process starts after.
      num_steps: updates in the whole run.
      steps_per_epoch: updates in an epoch.
      callbacks: get the metrics of each step.
      name: of the network and its data, for the title of the curves.
    """
    self._name = name
    self._callbacks = callbacks if callbacks.needs('on_step') else None
    self._window = window
    # Numbers of the latest steps, if they were skipped.
    self.skipped_in_a_row = [
      first_step - i for i in reversed(range(skipped_in_a_row))
    ]
    # A step and its metrics, still on the device.
    self._pending: tuple[int, clu_metrics.Collection] | None = None
    self._clock = None  # when the last step was found to be done
    self._seconds, self._steps = 0.0, 0  # timed since the last report
    self._first_step = first_step
    self._num_steps = num_steps
    self._steps_per_epoch = steps_per_epoch
    self._batch_size = config.batch_size
    self._report_every = steps_between_reports(
      config.log_every_steps, steps_per_epoch
    )
    self._task = task = task_of(config)
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    self._workdir = workdir
    names = [*task.train_metrics.__annotations__, *task.eval_names]
    columns = ['epoch', *names, 'steps_per_sec', 'images_per_sec']
    self._table = MetricsTable(workdir / 'metrics.csv', columns, first_step)
    try:
      self._writer = TensorBoardWriter(workdir, first_step)
    except OSError as error:  # its queue has semaphores in /dev/shm
      raise UserError(
        f"TensorBoard's file cannot be opened in {workdir} ({error.strerror}); "
        'make room there and in /dev/shm'
      ) from error
    self._writer.config(config, list(task.eval_names))
    self._drawing = concurrent.futures.ThreadPoolExecutor(1)
    # Future of the pictures that are being drawn.
    self._drawn: concurrent.futures.Future[None] | None = None
    self._bar = make_bar(num_steps, first_step)

  def add(self, step: int, metrics: clu_metrics.Collection) -> None:
    """Records that `step` was dispatched, and fetches the step before it."""
    self._fetch()
    self._pending = step, metrics

  def flush(self) -> clu_metrics.Collection:
    """Waits for the last step; returns the metrics not yet reported.

    The time until the next step does not count as training time.
    """
    self._fetch()
    self._clock = None
    if self._writes:
      self._table.store()  # a checkpoint may follow
    return self._window

  def evaluation(self, step: int, values: dict[str, float]) -> None:
    """Reports the metrics of the held-out images."""
    self._write(step, values)
    if self._writes:
      self._table.store()

  def weights(self, step: int, kernels: dict[str, jax.Array]) -> None:
    """Writes the pictures of the weights to TensorBoard.

    Args:
      step: the step they are of.
      kernels: as `Architecture.pictures` gives them.
    """
    if not self._writes:
      return
    self._wait_for_pictures()
    self._drawn = self._drawing.submit(
      self._draw, step, jax.device_get(kernels)
    )

  def close(self) -> None:
    """Writes what is left, and draws the learning curves."""
    if not self._writes:
      return
    self._bar.close()
    try:
      self._wait_for_pictures()
    finally:
      self._drawing.shutdown()
      self._writer.close()
    for name, write in (
      ('metrics.csv', self._table.store),
      ('curves.png', self._draw_curves),
    ):
      try:
        write()
      except UserError as error:  # must not hide an earlier error
        print(f'{name} was not written: {error}')

  def _draw_curves(self):
    from convmixer_jax.analysis import plots  # matplotlib takes a second

    if rows := self._table.rows():
      figure = plots.learning_curves(rows, self._name, self._task.main_metric)
      write_whole(self._workdir / 'curves.png', plots.to_png(figure))

  def _draw(self, step, kernels):
    from convmixer_jax.analysis import plots

    images = {}
    for name, stack in kernels.items():
      if stack.ndim == 4:
        images[f'weights/{name}'] = plots.kernel_grid(stack)
        continue
      for i, block in enumerate(stack):
        images[f'weights/{name}_{i:02}'] = plots.kernel_grid(block)
    self._writer.images(step, images)

  def _wait_for_pictures(self):
    if self._drawn:
      self._drawn.result()

  def _fetch(self):
    if self._pending is None:
      return
    (step, metrics), self._pending = self._pending, None
    metrics = jax.device_get(metrics)
    now = time.monotonic()
    if self._clock is not None:
      self._seconds += now - self._clock
      self._steps += 1
    self._clock = now
    if self._callbacks:
      self._callbacks.on_step(step, _to_floats(metrics.compute()))

    if metrics.skipped_steps.total:
      self.skipped_in_a_row.append(step)
    else:
      self.skipped_in_a_row.clear()
    is_empty = self._window.learning_rate.count == 0
    self._window = metrics if is_empty else self._window.merge(metrics)
    if self._writes:
      self._bar.update()
    if step % self._report_every == 0 or step == self._num_steps:
      values = self._window.compute()
      if self._steps:
        values['steps_per_sec'] = self._steps / self._seconds
        values['images_per_sec'] = values['steps_per_sec'] * self._batch_size
      self._write(step, values)
      self._window = self._task.empty_window()
      self._seconds, self._steps = 0.0, 0
    elif step == 1:  # its metrics are also part of the next report
      self._write(step, metrics.compute())
    elif step == self._first_step + 1:  # a run that was not stopped lacks it
      self._print(step, _to_floats(metrics.compute()))

  def _write(self, step, values):
    if not self._writes:
      return
    values = _to_floats(values)
    self._writer.scalars(step, values)
    epoch = step / self._steps_per_epoch
    self._table.write(step, {'epoch': round(epoch, 3)} | values)
    self._print(step, values)

  def _print(self, step, values):
    """Prints a report, which a progress bar stays below."""
    if not self._writes:
      return
    seconds_left = None
    if self._bar.disable and 'steps_per_sec' in values:
      seconds_left = (self._num_steps - step) / values['steps_per_sec']
    line = report_line(
      step,
      self._num_steps,
      step / self._steps_per_epoch,
      values,
      seconds_left=seconds_left,
      width=None if self._bar.disable else terminal_width(),
    )
    self.print(line)

  def print(self, line: str) -> None:
    """Prints a line, in the first process only, above a progress bar."""
    if not self._writes:
      return
    if self._bar.disable:
      print(line, flush=True)
    else:
      self._bar.write(line, file=sys.stdout)


def terminal_width() -> int | None:
  """Returns the columns of the terminal that stdout is, None if it is none."""
  try:
    return os.get_terminal_size(sys.stdout.fileno()).columns or None
  except (OSError, ValueError):
    return None


def _to_floats(values):
  """Returns numbers, without a learning rate that is not known."""
  floats = {name: float(value) for name, value in values.items()}
  if math.isnan(floats.get('learning_rate', 0)):
    del floats['learning_rate']
  return floats
