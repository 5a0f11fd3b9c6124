"""Every case gets a row, even if its program fails, dies or hangs."""

import time

import device_session
import pytest

from convmixer_jax.benchmarks import worker_process
from convmixer_jax.benchmarks.device import depthwise_cases
from convmixer_jax.benchmarks.device.cases import Case, run_cases
from convmixer_jax.benchmarks.worker_process import WorkerProcess

# Answers each case as its request says.
PROGRAM = """
import json, os, sys, time
request = json.loads(sys.stdin.readline())
def answer(**values):
  print(json.dumps(values), flush=True)
for case in request['cases']:
  number, behaviour = case['case'], case['behaviour']
  if behaviour == 'die':
    os._exit(3)
  if behaviour == 'hang':
    time.sleep(600)
  if behaviour == 'fail':
    answer(case=number, failed='CUDA error')
    break
  left = request['deadline'] - time.monotonic()
  answer(case=number, pid=os.getpid(), left=left)
answer(done=True)
"""


@pytest.fixture
def session(tmp_path):
  with device_session.create_session(tmp_path) as session:
    yield session


def run_program(session, *behaviours, program=PROGRAM):
  cases = [
    Case({'check': f'{number} {behaviour}'}, {'behaviour': behaviour})
    for number, behaviour in enumerate(behaviours)
  ]
  command = device_session.python(program)
  run_cases(session, 'correctness', command, {}, cases, 3000.0)
  rows = {row['check']: row for row in session.rows.all}
  assert list(rows) == [case.names['check'] for case in cases]
  return list(rows.values())


def test_cases_after_one_that_fails_run_in_another_process(session):
  first, failed, second, third = run_program(session, 'a', 'fail', 'b', 'c')
  assert failed['failed'] == 'CUDA error'
  assert second['pid'] == third['pid'] != first['pid']
  assert 0 < first['left'] <= 2990


def test_case_that_kills_the_process_fails_and_the_others_run(session):
  first, died, last = run_program(session, 'a', 'die', 'b')
  assert 'status 3' in died['failed']
  assert first['pid'] != last['pid']


def test_all_cases_of_a_program_that_never_answers_fail(session):
  rows = run_program(session, 'a', 'b', 'c', program='raise SystemExit(4)')
  assert all('status 4' in row['failed'] for row in rows)


def test_unanswered_cases_of_a_killed_program_are_missing(session, monkeypatch):
  clock, add = device_session.Clock(), session.rows.add

  def add_and_wait(*args, **values):
    add(*args, **values)
    clock.ahead = 3000.0

  monkeypatch.setattr(worker_process, 'time', clock)
  monkeypatch.setattr(session.rows, 'add', add_and_wait)
  first, hung, last = run_program(session, 'a', 'hang', 'b')
  assert 'pid' in first
  assert 'killed after' in hung['missing']
  assert 'killed after' in last['missing']


def test_stream_ends_when_the_worker_is_done_but_still_runs():
  script = """
import json, os, time
print(json.dumps({'pid': os.getpid()}), flush=True)
print(json.dumps({'done': True}), flush=True)
os.close(1)
time.sleep(600)
"""
  with WorkerProcess(device_session.python(script)) as process:
    (row,) = process.stream(b'{}\n', 3000.0)
    process.kill()
  device_session.wait_until_dead([row['pid']])


def test_worker_that_closes_its_output_without_ending_is_killed(monkeypatch):
  monkeypatch.setattr(
    'convmixer_jax.benchmarks.worker_process._SECONDS_TO_END', 0.1
  )
  script = 'import os, time; os.close(1); time.sleep(600)'
  with (
    pytest.raises(OSError, match='did not end'),
    WorkerProcess(device_session.python(script)) as process,
  ):
    list(process.stream(b'{}\n', 3000.0))


def test_no_depthwise_case_starts_after_the_deadline():
  def measure(case):
    if case['case'] == 1:
      raise RuntimeError('no memory\nand more')
    return {'microseconds': 2.0}

  cases = [{'case': number, 'min_bytes': 8000} for number in range(2)]
  request = {'cases': cases, 'deadline': time.monotonic() + 3000}
  measured, failed = depthwise_cases.time_all(request, measure)
  assert measured == {'case': 0, 'microseconds': 2.0, 'gb_per_sec': 4.0}
  assert failed == {'case': 1, 'failed': 'RuntimeError: no memory'}
  request['deadline'] = time.monotonic() - 1
  rows = list(depthwise_cases.time_all(request, measure))
  assert {row['missing'] for row in rows} == {'no time was left'}
