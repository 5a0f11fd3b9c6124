"""Everything of a run up to its first step, with time and memory, unkept."""

import contextlib
import time
from typing import Any

import jax
import ml_collections

from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.planning.compilation import memory_by_kind
from convmixer_jax.training.setup import set_up
from convmixer_jax.training.summary import aligned, count, describe_start
from convmixer_jax.training.trial import (
  create_state,
  open_batches,
  scratch_setup,
)

_TIMED_STEPS = 2  # after a first one, which may allocate


@default_settings()
def dry_run(config: ml_collections.ConfigDict, workdir: str | None) -> str:
  """Sets up, reads batches, compiles and times the step; writes nothing.

  Args:
    config: the whole config.
    workdir: the run directory, which need not exist; None for none.

  Returns:
    Lines on the run, its memory and its time.

  Raises:
    UserError: what training would raise before its first step, or the step does
      not fit into the device's memory.
  """
  with contextlib.ExitStack() as stack:
    if workdir is None:
      setup = stack.enter_context(scratch_setup(config))
    else:
      setup = set_up(config, workdir)
    first_step = max(setup.saved_steps, default=0)
    batches = stack.enter_context(open_batches(setup, first_step))
    start = time.perf_counter()
    batch = next(batches)
    first_batch_seconds = time.perf_counter() - start
    start = time.perf_counter()
    compiled = _compile(setup.trainer, batch)
    compile_seconds = time.perf_counter() - start
    step_seconds = _time_steps(compiled, create_state(setup), batch)
    memory = memory_by_kind(compiled.memory_analysis(), setup.trainer.state)
    lines = describe_start(setup, first_step)
    if workdir is None:  # the last line names a directory that is not made
      lines = lines.rpartition('\n')[0]
    steps_left = max(setup.num_steps - first_step, 0)
    run_time = _duration(steps_left * step_seconds)
    rate = setup.config.batch_size / step_seconds
    outcome = 'the run can start' if steps_left else 'the run has all its steps'
    rows = [
      ('Memory', _describe_memory(memory)),
      (
        'Time',
        f'{first_batch_seconds:.1f} s for the first batch, '
        f'{compile_seconds:.1f} s to compile, {1e3 * step_seconds:.4g} ms a '
        f'step ({rate:,.0f} images/s)',
      ),
      (
        '',
        f'{run_time} for {count(steps_left, "step")}, if the data keep up; '
        'evaluations and checkpoints come on top',
      ),
      ('Dry run', f'{outcome}; nothing was written'),
    ]
    return f'{lines}\n{aligned(rows)}'


def _compile(trainer, batch):
  try:
    return trainer.train_step.lower(trainer.state, batch).compile()
  except jax.errors.JaxRuntimeError as error:
    raise _out_of_memory(error) from error


def _time_steps(compiled, state, batch):
  """Returns the seconds of the fastest of a few steps."""
  seconds = []
  try:
    for _ in range(1 + _TIMED_STEPS):
      start = time.perf_counter()
      state, metrics = compiled(state, batch)
      jax.block_until_ready(metrics)
      seconds.append(time.perf_counter() - start)
  except jax.errors.JaxRuntimeError as error:
    raise _out_of_memory(error) from error
  return min(seconds[1:])


def _out_of_memory(error):
  """Returns a UserError if it is for want of memory, else the error."""
  if 'RESOURCE_EXHAUSTED' not in str(error):
    return error
  return UserError(
    'a step does not fit into the memory of a device; lower '
    'config.batch_size, raise config.accum_steps, or set '
    'config.model.remat = True'
  )


def _describe_memory(memory):
  """Returns the bytes that a device needs, and for what."""
  needed = sum(memory.values())
  text = f'{_mebibytes(needed)} on each device'
  if limit := _device_limit():
    text += f' of {_mebibytes(limit)}'
  parts = ', '.join(
    f'{name} {_mebibytes(size)}'
    for name, size in sorted(memory.items(), key=lambda item: -item[1])
    if size >= 2**19
  )
  return f'{text}: {parts}' if parts else text


def _device_limit() -> int | None:
  """Returns the bytes that JAX may use of a device, if it reports them."""
  stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
  return stats.get('bytes_limit')


def _mebibytes(size):
  return f'{size / 2**20:,.0f} MiB'


def _duration(seconds):
  if seconds < 60:
    return f'{seconds:.0f} s'
  if seconds < 3600:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'
