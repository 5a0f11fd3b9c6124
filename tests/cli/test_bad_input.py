"""Bad input: one line that says what, where and what to do; nothing written.

What one function alone refuses is tested beside that function; here are the
commands as they are typed, from the flags to the exit status.
"""

import re

import commands
import pytest
import tiny_sets
from bad_commands import TOOLS
from bad_configs import CONFIGS
from bad_data import DATA
from bad_input import SMALL, TINY, train
from bad_networks import NETWORKS
from bad_starts import START, WORKDIRS
from tiny_archives import jpeg

CASES = [*CONFIGS, *NETWORKS, *DATA, *START, *WORKDIRS, *TOOLS]


def run(arguments, tmp_path, **environment):
  return commands.run(
    [text.replace('TMP', str(tmp_path)) for text in arguments], environment
  )


def written(directory):
  # A run's directory changes while it is locked.
  return {
    path: path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns)
    for path in directory.rglob('*')
  }


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_in_one_line_and_writes_nothing(
  case, tmp_path, tmp_path_factory
):
  temporary = tmp_path_factory.mktemp('temporary')
  case.set_up(tmp_path)
  before = written(tmp_path)
  done = run(case.arguments, tmp_path, TMPDIR=str(temporary))
  message = re.escape(case.message.replace('TMP', str(tmp_path)))
  expected = f'error: {message}\n'.replace(re.escape('...'), '.+')
  errors = ''.join(f'{line}\n' for line in commands.complaints(done))
  assert re.fullmatch(expected, errors), done.stderr
  assert (done.returncode, done.stdout) == (1, '')
  assert written(tmp_path) == before
  assert not written(temporary)


def test_debug_flag_prints_a_traceback(tmp_path):
  case = next(case for case in CASES if case.name == 'a truncated JPEG')
  case.set_up(tmp_path)
  done = run([*case.arguments, '--debug'], tmp_path)
  assert done.returncode == 1 and 'Traceback' in done.stderr
  assert 'decode.py' in done.stderr and 'Truncated File Read' in done.stderr


# What a run of a set finds that is too large to be looked through before.
STORED = (
  *train(*TINY, *SMALL, '--config.dataset.cache_mib=0'),
  '--config.num_steps=4',
  '--config.checkpoint_every_steps=1',
)


@pytest.mark.slow
def test_run_stops_at_a_bad_record_and_resumes_after_it_is_fixed(tmp_path):
  bad = jpeg()[:-30], 0
  # Read for the second batch: an epoch has two.
  tiny_sets.write_set(tmp_path / 'data', tiny_sets.examples(changed={6: bad}))
  arguments = [*STORED, '--config.input.num_workers=0']
  done = run(arguments, tmp_path)
  assert done.stderr == (
    'error: cannot decode image 6 of tiny train: Truncated File Read '
    f'({len(bad[0])} bytes); replace the file or leave it out of the data set\n'
  )
  assert done.returncode == 1
  tiny_sets.write_set(tmp_path / 'data')
  done = run(arguments, tmp_path)  # it cannot know that this is all
  assert 'on other data; changed: images or labels of train; give' in (
    done.stderr
  )
  (tmp_path / 'run' / 'data.json').unlink()  # as the error says
  done = run(arguments, tmp_path)
  assert (done.returncode, commands.complaints(done)) == (0, [])
  assert '\nResuming from step 1 of 4\n' in done.stdout
  assert done.stdout.splitlines()[-1].startswith('eval_accuracy = ')


@pytest.mark.slow
def test_bad_record_in_a_worker_process_is_reported_in_one_line(tmp_path):
  bad = jpeg()[:-30], 1
  tiny_sets.write_set(tmp_path / 'data', tiny_sets.examples(changed={5: bad}))
  done = run([*STORED, '--config.input.num_workers=1'], tmp_path)
  assert done.stderr == (
    'error: cannot decode image 5 of tiny train: Truncated File Read '
    f'({len(bad[0])} bytes); replace the file or leave it out of the data set\n'
  )
  assert done.returncode == 1
