"""The stages that measure the device, check operations and run tests."""

import dataclasses
import importlib.util
import re
import shutil
from typing import Any

from convmixer_jax.benchmarks.device import correctness
from convmixer_jax.benchmarks.device.cases import run_cases
from convmixer_jax.benchmarks.device.operations import (
  create_checks,
  custom_kernels,
)
from convmixer_jax.benchmarks.device.session import ROOT, Output, Session
from convmixer_jax.benchmarks.machine import (
  count_usable_cores,
  describe_machine,
)

_NVIDIA_SMI = {
  'name': 'name',
  'driver_version': 'driver',
  'memory.total': 'memory_mib',
  'clocks.sm': 'sm_mhz',
  'clocks.mem': 'memory_mhz',
  'power.limit': 'power_limit_watts',
  'temperature.gpu': 'celsius',
}
_SANITIZER_SECONDS, _RACE_STATUS = 60.0, 9
_TESTS_SECONDS, _MAX_TEST_PROCESSES = 90.0, 6


def find_platform(session: Session) -> None:
  """Sets `session.platform`, without measuring anything.

  Raises:
    OSError: JAX does not start.
  """
  command = session.jax_command('ceilings')

  def receive(row):
    session.platform = row['platform']

  session.stream(command, None, 60.0, receive)


def measure_machine(session: Session) -> None:
  """Reports the machine, the device and the versions; measures ceilings."""
  rows, settings = session.rows, session.settings
  rows.add('machine', **describe_machine())
  for row in read_nvidia_smi(session):
    rows.add('machine', **row)
  request = {
    'copy_mib': settings.copy_mib,
    'product_size': settings.product_size,
    'on_cpu': settings.on_cpu,
  }
  # The other stages depend on the result: this one may exceed its share.
  seconds = max(session.budget.left('machine'), 60.0)
  command = session.jax_command('ceilings')

  def receive(row):
    session.platform = row.get('platform', session.platform)
    rows.add('machine', **row)

  session.stream(command, request, seconds, receive)


def read_nvidia_smi(session: Session) -> list[dict[str, str]]:
  """Returns the properties of each GPU by nvidia-smi; [] if not installed."""
  if not shutil.which('nvidia-smi'):
    return []
  command = [
    'nvidia-smi',
    f'--query-gpu={",".join(_NVIDIA_SMI)}',
    '--format=csv,noheader,nounits',
  ]
  output = session.run(command, 15.0)
  if output.status != 0:
    return [{'missing': f'nvidia-smi {output.outcome}: {output.last_line}'}]
  found = []
  for _, line in output.lines:
    fields = [field.strip() for field in line.split(',')]
    if len(fields) == len(_NVIDIA_SMI):
      values = zip(_NVIDIA_SMI.values(), fields, strict=True)
      found.append({f'gpu_{name}': field for name, field in values})
  return found


def check_correctness(session: Session) -> None:
  """Compares with references what users get, and searches for races.

  Nothing is timed, so all of it runs at once.
  """
  sanitizer = None
  if custom_kernels(session.platform):
    sanitizer = session.start(lambda: _run_sanitizer(session))
  compare_implementations(session, session.budget.left('correctness'))
  if sanitizer:
    sanitizer.join()


def compare_implementations(
  session: Session, seconds: float, *, others: bool = False
) -> None:
  """Compares operations with their references.

  Args:
    session: the run.
    seconds: time for all comparisons.
    others: whether to compare implementations that are not the default.
  """
  settings = session.settings
  request = {
    'checks': [dataclasses.asdict(shape) for shape in settings.checks],
    'depthwise': [dataclasses.asdict(shape) for shape in settings.depthwise],
  }
  checks = create_checks(session.platform, settings.checks, settings.depthwise)
  cases = correctness.create_cases(checks)[others]
  command = session.jax_command('correctness')
  environment = session.environment(XLA_PYTHON_CLIENT_PREALLOCATE='false')
  run_cases(
    *(session, 'correctness', command, request, cases, seconds, environment)
  )


def _run_sanitizer(session):
  """Searches for data races in this project's kernels, on a tiny shape."""
  row = {'check': 'compute-sanitizer', 'output': 'races'}
  if not shutil.which('compute-sanitizer'):
    reason = 'there is no compute-sanitizer on the PATH'
    session.rows.add('correctness', **row, missing=reason)
    return
  command = [
    'compute-sanitizer',
    '--tool=racecheck',
    f'--error-exitcode={_RACE_STATUS}',
    *session.jax_command('sanitized'),
  ]
  seconds = min(_SANITIZER_SECONDS, session.budget.left('correctness'))
  environment = session.environment(XLA_PYTHON_CLIENT_PREALLOCATE='false')
  output = session.run(command, seconds, environment)
  note = f'{output.outcome}: {output.last_line}'
  if output.status in (0, _RACE_STATUS):
    row |= {'passed': output.status == 0, 'note': note}
  else:
    row['missing'] = note
  session.rows.add('correctness', **row)


def run_tests(session: Session) -> None:
  """Runs the tests that are marked `gpu`."""
  directory = ROOT / 'tests' / 'kernels'
  tests = [directory / 'gpu' / 'test_on_gpu.py', directory / 'test_gpu.py']
  reason = None
  if session.platform != 'gpu':
    reason = 'the tests marked gpu need one'
  elif not all(path.exists() for path in tests):
    reason = 'the tests are in a checkout only, not in the installed package'
  elif importlib.util.find_spec('pytest') is None:
    reason = 'pytest is not installed'
  if reason:
    session.rows.add('tests', missing=reason)
    return
  command = [
    *session.python('-m', 'pytest', '-m', 'gpu', '-v', '-W', 'default'),
    *('-p', 'no:cacheprovider', *map(str, tests)),
  ]
  processes = min(_MAX_TEST_PROCESSES, count_usable_cores() // 2)
  if processes > 1 and importlib.util.find_spec('xdist') is not None:
    command += ['-n', str(processes)]
  seconds = min(session.budget.left('tests'), _TESTS_SECONDS)
  environment = session.environment(
    # They compile the same networks several times.
    JAX_ENABLE_COMPILATION_CACHE='true',
    PYTHONUNBUFFERED='1',
    # Other processes need memory, too.
    XLA_PYTHON_CLIENT_PREALLOCATE='false',
  )
  output = session.run(command, seconds, environment)
  session.rows.add('tests', **judge_tests(output))


def judge_tests(output: Output) -> dict[str, Any]:
  """Returns whether the tests `passed`, or why that is not known.

  Args:
    output: output of pytest with `-v`, where a test's result follows its name,
      or is before it if several processes run them.
  """
  note = f'pytest {output.outcome}: {output.last_line}'
  # A test that failed before pytest was killed counts as failed.
  failed = any(
    re.search(r'::.* (FAILED|ERROR)\b|\b(FAILED|ERROR) \S+::', text)
    for _, text in output.lines
  )
  crashed = output.status is not None and output.status < 0
  # Status 2: a module cannot be imported.
  if failed or crashed or output.status in (1, 2):
    return {'passed': False, 'note': note}
  if output.status == 0 and re.search(r'\b\d+ passed', output.last_line):
    return {'passed': True, 'note': note}
  passed = sum(' PASSED' in text for _, text in output.lines)
  return {'missing': f'{note}; {passed} passed'}
