"""The same command twice: the second one is refused, or takes over."""

import time

import commands
import jobs
import pytest
import small_run

FLAGS = [
  *small_run.FLAGS,
  '--config.log_every_steps=1',
]


def files(directory):
  """Returns the files that do not change while a run trains."""
  names = {path.name for path in directory.iterdir()}
  return {
    name: (directory / name).read_bytes()
    for name in names & {'config.json', 'versions.json', 'in_use.lock'}
  }


@pytest.mark.slow
@pytest.mark.parametrize('num_processes', [1, 2])
def test_second_run_is_refused_and_a_killed_one_is_taken_over(
  tmp_path, num_processes
):
  workdir = tmp_path / 'run'
  long = '--config.num_epochs=100000'
  first = jobs.Job(workdir, [*FLAGS, long], num_processes=num_processes)
  while not first.rows():
    assert all(process.is_alive() for process in first.processes), (
      first.output()
    )
    time.sleep(0.1)
  before = files(workdir)

  second = jobs.Job(workdir, [*FLAGS, long], num_processes=num_processes)
  assert second.wait() == [75] * num_processes, second.output()
  for output in second.outputs():
    assert f'--workdir={workdir} is in use by process ' in output
    assert 'Traceback' not in output
  assert files(workdir).keys() == before.keys()
  assert files(workdir)['config.json'] == before['config.json']
  assert all(process.is_alive() for process in first.processes)

  for process in first.processes:
    process.kill()
  first.wait()
  done = commands.run(
    ['train.py', f'--workdir={workdir}', *FLAGS, '--config.num_steps=1']
  )
  assert done.returncode == 0, done.stderr
  assert 'which has ended; this process takes over' in done.stdout
  assert not (workdir / 'in_use.lock').exists()
