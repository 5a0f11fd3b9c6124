"""What a container allows: cgroups of both versions, in a made file system."""

import math
import os
import resource
import sys

import pytest

from convmixer_jax import limits, notes

V2 = '0::/\n'
V1 = '4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:pids:/docker/abc\n'


@pytest.fixture
def machine(tmp_path):
  """Writes files below a root; returns the root."""

  def make(cgroup, **files):
    for path, text in {'proc/self/cgroup': cgroup, **files}.items():
      file = tmp_path / path
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_text(text)
    return str(tmp_path)

  return make


CPUS = [
  (V2, {'sys/fs/cgroup/cpu.max': '50000 100000\n'}, 1),
  (V2, {'sys/fs/cgroup/cpu.max': 'max 100000\n'}, math.inf),
  (
    '0::/kubepods/pod1/c\n',
    {
      'sys/fs/cgroup/kubepods/cpu.max': 'max 100000\n',
      'sys/fs/cgroup/kubepods/pod1/cpu.max': '100000 100000\n',
      'sys/fs/cgroup/kubepods/pod1/c/cpu.max': 'max 100000\n',
    },
    1,
  ),
  (
    V1,
    {
      'sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us': '100000\n',
      'sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us': '100000\n',
    },
    1,
  ),
  (  # in a container, the path of the host is not there
    V1,
    {
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '20000\n',
      'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    },
    1,
  ),
  (
    V1,
    {
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    },
    math.inf,
  ),
  (V2, {'sys/fs/cgroup/cpu.max': 'damaged'}, math.inf),
]


@pytest.mark.parametrize(('cgroup', 'files', 'most'), CPUS)
def test_cores_are_those_of_the_tightest_quota(machine, cgroup, files, most):
  here = len(os.sched_getaffinity(0))
  assert limits.num_cores(machine(cgroup, **files)) == min(here, most)


@pytest.mark.parametrize(
  ('cgroup', 'path'),
  [
    (V2, 'memory.max'),
    (V2, 'memory.high'),
    (V1, 'memory/docker/abc/memory.limit_in_bytes'),
    (V1, 'memory/memory.limit_in_bytes'),
  ],
)
def test_memory_is_limited_by_either_version(machine, cgroup, path):
  root = machine(cgroup, **{f'sys/fs/cgroup/{path}': f'{2**28}\n'})
  assert limits.memory_bytes(root) == 2**28


def test_without_proc_and_sys_the_machine_is_the_limit(tmp_path):
  root = str(tmp_path)
  assert limits.num_cores(root) == len(os.sched_getaffinity(0))
  assert 2**28 < limits.memory_bytes(root)
  assert limits.free_processes(root) == math.inf


def test_processes_that_a_cgroup_still_allows(machine):
  root = machine(
    V2,
    **{
      'sys/fs/cgroup/pids.max': '100\n',
      'sys/fs/cgroup/pids.current': '93\n',
    },
  )
  assert limits.free_processes(root) == 7


def test_shared_memory_that_is_not_there_is_none(tmp_path):
  assert limits.free_shared_memory(str(tmp_path / 'shm')) == 0
  assert limits.free_shared_memory(str(tmp_path)) > 0


def test_shared_memory_is_not_limited_where_it_is_not_a_file_system(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert limits.free_shared_memory(str(tmp_path / 'shm')) == math.inf


def test_open_files_are_raised_where_the_hard_limit_is_refused(monkeypatch):
  limit = [256, resource.RLIM_INFINITY]

  def set_limit(_, wanted):
    if wanted[0] == resource.RLIM_INFINITY:
      raise ValueError('current limit exceeds maximum limit')
    limit[:] = wanted

  monkeypatch.setattr(resource, 'getrlimit', lambda _: tuple(limit))
  monkeypatch.setattr(resource, 'setrlimit', set_limit)
  for _ in range(2):
    assert limits.raise_open_files() == limit[0] == 10_240
  limit[0] = 20_000
  assert limits.raise_open_files() == limit[0] == 20_000


def test_soft_limit_of_open_files_is_raised_to_the_hard_one():
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
  try:
    assert limits.raise_open_files() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_note_on_a_subject_is_printed_once(capsys, monkeypatch):
  monkeypatch.setattr(notes, '_said', set())
  for number in range(3):
    notes.note(f'{number} is less', 'numbers')
  notes.note('another')
  assert capsys.readouterr().err == 'Note: 0 is less\nNote: another\n'
