"""Runs a sweep to its end: starts runs, watches them, chooses, reports."""

import contextlib
import signal
import time
from collections.abc import Callable

from convmixer_jax.distributed.watchdog import EXIT_STATUS as LOST_PROCESS
from convmixer_jax.errors import Preempted, UserError
from convmixer_jax.locks.directory_lock import NAME as LOCK
from convmixer_jax.sweeps.choices import choose, has_diverged
from convmixer_jax.sweeps.entry import Entry
from convmixer_jax.sweeps.executor import Executor
from convmixer_jax.sweeps.plan import Plan, check_unchanged
from convmixer_jax.sweeps.progress import read_progress

_POLL = 0.5  # seconds between looks at the processes
_READ_EVERY = 2.0  # seconds between looks at the files of a run
_IN_USE_WAIT = 5.0  # seconds until a run is tried that another process trains
_LOST = (Preempted.EXIT_STATUS, LOST_PROCESS, 134, 137, 143)
_TRIES = 5  # starts in a row that may end without a new checkpoint


class Runner:
  """A sweep that runs."""

  def __init__(
    self,
    plan: Plan,
    executor: Executor,
    report: Callable[['Runner', str], None],
  ):
    """Reads how far all runs are.

    Args:
      plan: with the choices that were made before.
      executor: starts the runs.
      report: called with this, and a line on what happened or '', at each look.
    """
    self.plan, self._executor, self._report = plan, executor, report
    self.entries = {run.name: Entry(run) for run in plan.runs}
    self._signal: int | None = None
    self._is_stopped = False
    for entry in self.entries.values():
      run = entry.run
      if run.config is not None:
        entry.progress = read_progress(run.directory, run.config)
      if entry.progress.is_complete:
        entry.state = 'complete'
      elif run.is_trial and run.error.exists():
        line = run.error.read_text().strip()
        if has_diverged(line):  # it would again
          entry.state, entry.error = 'failed', line

  def run(self) -> None:
    """Runs until nothing is left to do.

    Raises:
      Preempted: by SIGTERM or Ctrl-C; all runs have saved their state.
      KeyboardInterrupt: by a second Ctrl-C; runs may still be saving.
    """
    before = {
      number: signal.signal(number, self._receive)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
      self._run()
    except BaseException:
      self._executor.stop()
      raise
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def failed(self) -> list[Entry]:
    """Returns the runs that failed, or whose row has no value."""
    return [
      entry
      for entry in self.entries.values()
      if entry.state in ('failed', 'not chosen') and not self._is_settled(entry)
    ]

  def _is_settled(self, entry):
    """Whether a trial diverged, which is a result, and its row has a value."""
    return entry.run.is_trial and any(
      other.config is not None
      for other in self.plan.of_row(entry.run.row, trials=False)
    )

  def _run(self):
    while True:
      self._collect()
      self._refresh()
      if self._signal is None:
        self.choose()
        self._start()
      elif not self._is_stopped:
        self._executor.stop()
        self._is_stopped = True
      self._report(self, '')
      is_active = bool(self._executor.states())
      if self._is_stopped and not (
        is_active and self._executor.ends_with_sweep
      ):
        raise self._preempted()
      if not is_active and not any(
        entry.is_open for entry in self.entries.values()
      ):
        return
      time.sleep(_POLL)

  def _preempted(self):
    done = sum(e.state == 'complete' for e in self.entries.values())
    name = signal.Signals(self._signal).name
    return Preempted(
      f'stopped by {name}: {done} of {len(self.entries)} runs are complete, '
      f'{self._executor.describe_stop()}; the same command resumes the sweep'
    )

  def _receive(self, number, frame):
    del frame
    if self._signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._signal = number

  def _collect(self):
    """Handles the runs that have ended."""
    for name, status in self._executor.poll().items():
      entry = self.entries[name]
      if entry.started:
        entry.seconds += time.monotonic() - entry.started
        entry.started = 0.0
      self._read(entry)
      was_lost = status < 0 or status in _LOST
      if entry.progress.is_complete and (status == 0 or was_lost):
        entry.state = 'complete'
        self._report(self, self._describe_end(entry))
      elif was_lost:
        if self._signal is None:
          self._restart(entry, status)
        else:
          entry.state = 'waiting'
      else:
        self._fail(entry, self._last_line(entry, status))

  def _restart(self, entry, status):
    """Lets a run that was killed or preempted start again."""
    if (entry.run.directory / LOCK).exists() and status == _LOST[0]:
      entry.state = 'in use'
      entry.not_before = time.monotonic() + _IN_USE_WAIT
      return
    has_saved = entry.progress.saved_step > entry.saved_step
    entry.tries = 0 if has_saved else entry.tries + 1
    how = describe_status(status)
    if entry.tries >= _TRIES:
      self._fail(
        entry,
        f'it was {how} {_TRIES} times without a new checkpoint; too little '
        'memory is a usual reason',
      )
      return
    entry.state = 'waiting'
    self._report(self, f'{entry.run.name} was {how}; it is started again')

  def _fail(self, entry, error):
    entry.state, entry.error = 'failed', error
    with contextlib.suppress(OSError):  # a full disk stops no other run
      entry.run.error.write_text(error + '\n')
    self._report(self, f'{entry.run.name} failed: {error}')

  def _last_line(self, entry, status):
    """Returns the last line that the last start of a run has printed."""
    text = b''
    if entry.run.log.exists():
      text = entry.run.log.read_bytes()[entry.log_start :]
    lines = [
      line.strip() for line in text.decode(errors='replace').splitlines()
    ]
    lines = list(filter(None, lines))
    if not lines:
      return f'exit status {status}, without a message'
    return lines[-1].removeprefix('error: ')

  def choose(self) -> None:
    """Chooses the values of the rows whose trials have ended."""
    progress = {name: entry.progress for name, entry in self.entries.items()}
    errors = {name: e.error for name, e in self.entries.items() if e.error}
    for row in self.plan.rows:
      runs = self.plan.of_row(row, trials=False)
      if row.choose is None or runs[0].config is not None:
        continue
      if self.entries[runs[0].name].state == 'not chosen':
        continue
      try:
        line = choose(self.plan, row, progress, errors)
        if line:
          check_unchanged(self.plan)
          for run in runs:
            self._read(self.entries[run.name])
          self._report(self, line)
          continue
        trials = [
          self.entries[r.name] for r in self.plan.of_row(row, trials=True)
        ]
        if any(trial.is_open for trial in trials):
          continue
        names = ', '.join(t.run.name for t in trials if t.state == 'failed')
        error = f'a trial failed: {names}'
      except UserError as problem:
        error = str(problem)
      for run in runs:
        self.entries[run.name].state = 'not chosen'
        self.entries[run.name].error = error

  def _start(self):
    now = time.monotonic()
    ready = []
    for entry in self.entries.values():
      if len(ready) == self._executor.room():
        break
      if entry.run.config is None or entry.not_before > now:
        continue
      if entry.state == 'in use':
        self._read(entry)  # the other process may have completed it
      if entry.state in ('waiting', 'in use'):
        ready.append(entry)
    for entry in ready:
      entry.run.error.unlink(missing_ok=True)
      log = entry.run.log
      entry.log_start = log.stat().length if log.exists() else 0
      entry.share = entry.progress.share
      entry.saved_step = entry.progress.saved_step
      entry.started = now if self._executor.ends_with_sweep else 0.0
    if ready:
      self._executor.start([entry.run for entry in ready])

  def _refresh(self):
    now = time.monotonic()
    for name, state in self._executor.states().items():
      entry = self.entries[name]
      if state != entry.state and state == 'training':
        entry.started = now
      entry.state = state
      if now - entry.read_at > _READ_EVERY:
        self._read(entry)

  def _read(self, entry):
    entry.read_at = time.monotonic()
    if entry.run.config is None:
      return
    with contextlib.suppress(UserError):  # which the run itself reports
      entry.progress = read_progress(entry.run.directory, entry.run.config)
    if entry.progress.is_complete and entry.state in ('waiting', 'in use'):
      entry.state = 'complete'

  def _describe_end(self, entry):
    metrics = ', '.join(
      f'{name} {value:.4f}'
      for name, value in entry.progress.metrics.items()
      if name.startswith('eval_') and 'loss' not in name and 'top5' not in name
    )
    return f'{entry.run.name} is complete: {metrics}, in {entry.seconds:.0f} s'


def describe_status(status: int) -> str:
  """Returns how a process ended that did not fail by itself."""
  if status < 0:
    return f'ended by {signal.Signals(-status).name}'
  return f'stopped (status {status})'
