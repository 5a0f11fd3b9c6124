"""Networks that compile at the same time, and are timed one by one."""

import dataclasses
import json
import signal
import subprocess
import threading
import time

import device_session
import pytest

from convmixer_jax.benchmarks.device import (
  depthwise_stage,
  model_groups,
  model_stage,
  report,
)
from convmixer_jax.benchmarks.device.model_groups import Measurement
from convmixer_jax.benchmarks.device.settings import FULL

# Writes the begin and end of each request that it works on.
WORKER = """
import json, os, sys, time
def answer(**values):
  print(json.dumps(values), flush=True)
log = open(LOG, 'a')
json.loads(sys.stdin.readline())
answer(about={'memory': os.environ.get('XLA_PYTHON_CLIENT_PREALLOCATE')})
for line in sys.stdin:
  kind, count = line.split()
  begin = time.monotonic()
  time.sleep(0.3 if kind == 'first' else 0.05)
  log.write(json.dumps([NAME, kind, count, begin, time.monotonic()]) + '\\n')
  log.flush()
  values = {'wall': 0.05, 'cpu': 0.05}
  if kind == 'first':
    values |= {'compile': 0.2, 'step': 0.05, 'peak': 1.0}
  if kind == 'profile_train':
    values['profile'] = [['correlate', 2.0, 30.0], ['other', 1.0, 5e3]]
  answer(**values)
"""


@pytest.fixture
def session(tmp_path):
  with device_session.create_session(tmp_path) as session:
    session.platform = 'gpu'
    session.settings = dataclasses.replace(
      session.settings, limits={'fake': 3000.0}
    )
    session.rows.add('machine', memory_limit=60e9)
    yield session


def measurement(session, name, **fields):
  log = repr(str(session.directory / 'events'))
  script = WORKER.replace('LOG', log).replace('NAME', repr(name))
  return Measurement(
    *('fake', name, device_session.TINY, device_session.python(script)),
    **fields,
  )


def events(session):
  lines = (session.directory / 'events').read_text().splitlines()
  return sorted((json.loads(line) for line in lines), key=lambda e: e[3])


def overlap(events):
  return any(
    second[3] < first[4]
    for first, second in zip(events, events[1:], strict=False)
  )


def test_group_compiles_at_once_and_is_timed_one_by_one(session):
  group = [measurement(session, name) for name in 'abc']
  model_groups.measure_group(session, 'models', group)
  found = events(session)
  first = [event for event in found if event[1:3] == ['first', 'train']]
  others = [event for event in found if event[1] != 'first']
  assert len(first) == 3
  assert overlap(first)
  assert not overlap(others)
  # Nothing is timed while another one compiles.
  assert not any(
    one[3] < other[4] and other[3] < one[4]
    for one in others
    for other in found
    if other[1] == 'first'
  )
  timed = [row for row in session.rows.all if 'seconds' in row]
  assert [(row['network'], row['kind']) for row in timed] == [
    (name, kind) for kind in ('train', 'forward') for name in 'abc'
  ]
  about = [row['about'] for row in session.rows.all if 'about' in row]
  assert about == 3 * [{'memory': 'false'}]


def test_group_that_does_not_compile_starts_its_steps_one_by_one(session):
  group = [measurement(session, name, compiles=False) for name in 'ab']
  model_groups.measure_group(session, 'models', group)
  assert not overlap(events(session))
  assert len([row for row in session.rows.all if 'seconds' in row]) == 4


def test_kernels_of_a_profiled_step_are_in_the_results(session):
  group = [measurement(session, 'a', kinds=('train',), profiled=True)]
  model_groups.measure_group(session, 'models', group)
  printed = report.format_results(session.rows.all)
  assert 'a, fake: all kernels take 5.03 ms' in printed
  assert '| correlate | 2 | 15.0 | 30 |' in printed


def test_groups_are_divided_by_the_memory_of_the_device():
  group = [
    Measurement('this project', name, case, [])
    for name, case in FULL.networks.items()
  ]
  parts = list(model_groups.divide(group, 40e9))
  assert [one for part in parts for one in part] == group
  assert 1 < len(parts) < len(group)
  # Of an H100.
  assert len(list(model_groups.divide(group, 78e9))) == 1
  assert len(list(model_groups.divide(group, 0.0))) == len(group)


def test_loop_stands_for_networks_that_were_not_compiled(session):
  session.settings = FULL
  groups = model_stage.list_groups(session)
  (project, *_) = [next(groups)]
  assert {one.network for one in project} == {*FULL.networks, *FULL.inference}
  for name in FULL.networks:
    if name != '768/32':
      session.rows.add(
        'models',
        framework='this project',
        network=name,
        kind='train',
        seconds=1.0,
      )
  (scan,) = next(groups)
  assert (scan.framework, scan.network) == ('this project, scan', '768/32')
  eager = next(groups)
  layouts = {one.network: one.framework for one in eager}
  assert layouts['768/32'] == 'PyTorch, eager'
  assert layouts['1536/20'] == 'PyTorch, eager, NCHW'


def test_convolutions_that_were_timed_are_not_timed_again(session, monkeypatch):
  calls = []
  monkeypatch.setattr(
    depthwise_stage,
    '_time',
    lambda session, program, shapes, variants, seconds: calls.append(variants),
  )
  (shape,) = session.settings.depthwise
  session.rows.add(
    'depthwise', depthwise=str(shape), variant='PyTorch NHWC', microseconds=1.0
  )
  depthwise_stage.compare(session, [shape], 'depthwise')
  assert calls == [['PyTorch NCHW']]
  depthwise_stage.compare(session, [shape], 'depthwise', by_xla=True)
  assert calls[1:] == [['PyTorch NCHW'], ['lax']]


def test_programs_of_threads_are_killed_at_the_end(session):
  pids = []
  log = session.directory / 'pids'
  script = f"""
import os, time
open({str(log)!r}, 'w').write(str(os.getpid()))
time.sleep(600)
"""
  thread = session.start(
    lambda: pids.append(session.run(device_session.python(script), 3000.0))
  )
  while not (log.exists() and log.read_text()):
    time.sleep(0.05)
  session.close()
  assert not thread.is_alive()
  assert pids[0].status is not None
  device_session.wait_until_dead([int(log.read_text())])


def test_program_that_a_thread_is_just_starting_is_killed_too(
  session, monkeypatch
):
  start, started, outputs = subprocess.Popen, threading.Event(), []

  def start_slowly(*args, **options):
    process = start(*args, **options)
    started.set()
    time.sleep(0.5)
    return process

  monkeypatch.setattr(subprocess, 'Popen', start_slowly)
  hangs = device_session.python('import time; time.sleep(60)')
  session.start(lambda: outputs.append(session.run(hangs, 3000.0)))
  started.wait()
  session.close()
  outputs.append(session.run(hangs, 3000.0))  # nor is another one started
  assert [output.status for output in outputs] == [-signal.SIGKILL, None]
