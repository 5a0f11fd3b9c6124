"""Runs the stages, and writes the results after each."""

import contextlib
import functools
import os
import pathlib
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

from convmixer_jax.analysis import plots
from convmixer_jax.benchmarks.device import (
  alternatives_stage,
  cifar10_stage,
  comparison_stage,
  depthwise_stage,
  device_stages,
  inputs,
  model_stage,
  picture,
  report,
)
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.rows import Rows
from convmixer_jax.benchmarks.device.session import Session
from convmixer_jax.benchmarks.device.settings import STAGES, Settings
from convmixer_jax.benchmarks.error_line import describe
from convmixer_jax.errors import UserError

_FUNCTIONS: dict[str, Callable[[Session], None]] = {
  'machine': device_stages.measure_machine,
  'correctness': device_stages.check_correctness,
  'tests': device_stages.run_tests,
  'depthwise': depthwise_stage.time_depthwise,
  'models': model_stage.measure_models,
  'cifar10': cifar10_stage.train_cifar10,
  'alternatives': alternatives_stage.measure_alternatives,
  'networks': model_stage.measure_others,
  'comparison': comparison_stage.compare_networks,
}
_WITH_TORCH = {'depthwise', 'models', 'alternatives', 'networks'}
# These time nothing, and run at the same time.
_BESIDE = {'correctness': 'tests'}


def choose_stages(only: Sequence[str], skip: Sequence[str]) -> list[str]:
  """Returns the stages to run, in their order.

  Raises:
    UserError: a name is unknown, or no stage remains.
  """
  for name in [*only, *skip]:
    if name not in STAGES:
      raise UserError(
        f'there is no stage {name!r}; the stages are {", ".join(STAGES)}'
      )
  chosen = [
    name for name in STAGES if name not in skip and (name in only or not only)
  ]
  if not chosen:
    raise UserError(
      f'no stage remains; --only and --skip exclude all of {", ".join(STAGES)}'
    )
  return chosen


_NO_DEVICE = 'JAX found no device; the other stages were not started'
_NO_ACCELERATOR = (
  'JAX sees no accelerator, only a CPU; install its plugin for one, or give '
  '--quick'
)


class Terminated(BaseException):
  """The process received SIGTERM or SIGHUP.

  Attributes:
    status: the exit status that a shell reports for the signal.
  """

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.status = 128 + number


def run(
  settings: Settings,
  directory: pathlib.Path,
  *,
  stages: Sequence[str] = tuple(STAGES),
  budget_seconds: float = 480.0,
  torch_python: str = sys.executable,
  cifar10: str | None = None,
  data_dir: str | None = None,
) -> list[str]:
  """Runs stages, in their order, and writes the results.

  Args:
    settings: sizes, counts and limits.
    directory: directory for the results, new or without `rows.jsonl`. Each row
      is appended to `rows.jsonl` immediately; `results.md`, `throughput.png`
      and `log.txt` are written after each stage. The last adds `compare.csv`,
      `compare.md`, `compare.json` and `compare.png`.
    stages: names of the stages to run.
    budget_seconds: time after which nothing new is started.
    torch_python: a Python interpreter that has PyTorch and timm.
    cifar10: a tar of CIFAR-10's images as split/label/name.jpg, or None.
    data_dir: a directory of TFDS with a prepared CIFAR-10, or None.

  Returns:
    The faults of this project (wrong outputs, losses or tests, and exceptions),
    one line each.

  Raises:
    UserError: a path is not valid; nothing was written.
    Terminated: on SIGTERM or SIGHUP, after writing the results so far.
    KeyboardInterrupt: on Ctrl-C, after writing the results so far.
  """
  cifar10, data_dir = (
    path and os.path.abspath(os.path.expanduser(path))
    for path in (cifar10, data_dir)
  )
  if os.sep in torch_python:  # programs may run in another directory
    torch_python = os.path.abspath(os.path.expanduser(torch_python))
  inputs.check_inputs(directory, cifar10, data_dir)
  directory.mkdir(parents=True, exist_ok=True)
  shares = {name: STAGES[name] for name in STAGES if name in stages}
  budget = Budget(budget_seconds, shares)
  with (
    _terminated_by_signals(),
    tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    (directory / 'log.txt').open('wb') as log,
    contextlib.closing(Rows(directory / 'rows.jsonl', budget.used)) as rows,
  ):
    session = Session(
      settings=settings,
      rows=rows,
      budget=budget,
      directory=directory,
      scratch=pathlib.Path(scratch),
      log=log,
      torch_python=torch_python,
      cifar10=cifar10,
      data_dir=data_dir,
    )
    try:
      if not _WITH_TORCH.isdisjoint(shares):
        session.search_torch(inputs.find_torch)
      started: dict[str, threading.Thread] = {}
      for stage in shares:
        beside = _BESIDE.get(stage)
        if beside in shares and session.platform:
          started[beside] = session.start(
            functools.partial(_run_stage, session, beside)
          )
        if stage in started:
          started[stage].join()
        else:
          _run_stage(session, stage)
        reason = None
        if not session.platform:  # each stage would wait for a device again
          reason = _NO_DEVICE
        elif session.platform == 'cpu' and not settings.on_cpu:
          reason = _NO_ACCELERATOR
        if reason:
          rows.add('run', failed=reason)
        write_results(session)
        if reason:
          break
    except (KeyboardInterrupt, Terminated) as error:
      reason = type(error).__name__ + f' {error}'.rstrip()
      rows.add('run', missing=f'the remaining stages: {reason}')
      write_results(session)
      raise
    finally:
      session.close()
    rows.add('run', seconds=budget.used())
    return find_faults(rows)


def _run_stage(session, stage):
  """Runs a stage; its errors do not stop the other stages."""
  try:
    if stage != 'machine' and not session.platform:
      device_stages.find_platform(session)
    left = session.budget.left(stage)
    if stage != 'machine' and left < session.settings.min_seconds:
      session.rows.add(stage, missing='no time was left')
      return
    _FUNCTIONS[stage](session)
  except Exception as error:
    key = 'missing' if isinstance(error, TimeoutError) else 'failed'
    session.rows.add(stage, **{key: describe(error)})


def write_results(session: Session) -> None:
  """Writes the tables and the plot of the rows so far."""
  try:
    _write_results(session)
  except Exception as error:  # must not stop the remaining stages
    session.rows.add('run', failed=f'results: {describe(error)}')


def _write_results(session):
  rows = session.rows.all
  (session.directory / 'results.md').write_text(report.format_results(rows))
  devices = [row['device'] for row in rows if 'device' in row]
  title = devices[-1] if devices else 'unknown device'
  figure = picture.plot_throughput(rows, title)
  if figure:
    content = plots.to_png(figure)
    (session.directory / 'throughput.png').write_bytes(content)


def find_faults(rows: Rows) -> list[str]:
  """Returns the faults of this project in the rows, one line each.

  Missing results of a process that was killed or not started are not faults.
  """
  faults = []
  for row in rows.all:
    name = row.get('framework') or row.get('variant') or 'this project'
    if name.startswith(('PyTorch', 'plain Flax', 'lax')):
      continue
    names = (
      *('network', 'kind', 'part', 'depthwise', 'product'),
      *('implementation', 'dtype', 'shape', 'output', 'note'),
    )
    details = ', '.join(str(row[name]) for name in names if name in row)
    details = f' ({details})' if details else ''
    subject = row.get('check') or f'{row["stage"]}: {name}'
    if row.get('passed') is False:
      faults.append(f'{subject} is wrong{details}')
    if row.get('finite') is False:
      faults.append(f'{subject} is not finite{details}')
    if 'failed' in row:
      faults.append(f'{subject} failed{details}: {row["failed"]}')
  return faults


@contextlib.contextmanager
def _terminated_by_signals() -> Iterator[None]:
  numbers = signal.SIGTERM, signal.SIGHUP

  def terminate(number, _):
    # A second signal would interrupt the writing of the results.
    for ignored in numbers:
      signal.signal(ignored, signal.SIG_IGN)
    raise Terminated(number)

  before = {number: signal.getsignal(number) for number in numbers}
  for number in numbers:
    if before[number] is not signal.SIG_IGN:  # nohup ignores SIGHUP
      signal.signal(number, terminate)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
