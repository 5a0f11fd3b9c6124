"""The stage of the device benchmark that compares the paper's networks."""

import dataclasses
import json

import device_session
import pytest

from convmixer_jax.benchmarks.comparison.paper import PAPER
from convmixer_jax.benchmarks.device import comparison_stage, report, run
from convmixer_jax.benchmarks.device.budget import Budget
from convmixer_jax.benchmarks.device.settings import FULL, STAGES

ROW = {
  'architecture': 'vit',
  'image_size': 224,
  'parameters': 86_567_656,
  'macs': 17_564_000_000,
  'activations': 23_900_000,
}
# Stands for the command: writes its file, says something, and ends or hangs.
COMMAND = """
import pathlib, sys, time
(directory,) = [a.removeprefix('--output=') for a in sys.argv if '=' in a][-1:]
(pathlib.Path(directory) / 'compare.json').write_text({content!r})
print('its last line', flush=True)
{end}
"""


@pytest.fixture
def session(tmp_path):
  with device_session.create_session(tmp_path) as session:
    session.budget = Budget(40_000.0, {'comparison': 1})
    yield session


def compare(session, monkeypatch, rows, end='', **settings):
  """Runs the stage with a fake command; returns the arguments it had."""
  content = json.dumps({'settings': {}, 'rows': rows})
  script = COMMAND.format(content=content, end=end)
  arguments = []

  def python(*given):
    arguments.extend(given)
    return [*device_session.python(script), *given]

  monkeypatch.setattr(session, 'python', python)
  session.settings = dataclasses.replace(session.settings, **settings)
  comparison_stage.compare_networks(session)
  return arguments


def test_it_is_the_last_stage_and_leaves_their_time_to_the_others():
  assert list(STAGES)[-1] == 'comparison'
  assert sum(STAGES.values()) == pytest.approx(1)
  # What the full benchmark always has is enough for starting it.
  assert 480 * STAGES['comparison'] > FULL.min_seconds


def test_command_compares_as_the_settings_say(session, monkeypatch):
  arguments = compare(
    session, monkeypatch, {'deit_b': ROW}, comparison=FULL.comparison
  )
  assert arguments[:3] == ['-m', 'convmixer_jax', 'compare']
  assert {'--models=paper', '--dtype=bfloat16'} < set(arguments)
  assert arguments[-1] == f'--output={session.directory}'


def test_networks_become_rows_and_a_table(session, monkeypatch):
  rates = {'forward_images_per_sec': 4321.0, 'train_memory_mib': 99.0}
  found = {'deit_b': ROW | rates, 'my_network': ROW | {'failed': {}}}
  compare(session, monkeypatch, found)
  paper, own = session.rows.all
  assert (paper['network'], paper['macs']) == ('deit_b', ROW['macs'])
  assert paper['top1'] == PAPER['deit_b'].top1
  assert paper['forward_images_per_sec'] == 4321.0
  assert 'top1' not in own and 'forward_images_per_sec' not in own
  printed = report.format_results(session.rows.all)
  line = '| deit_b | 86.6 | 17.56 | 23.90 | 4,321.0 |  |  | 99 | 81.80 |'
  assert line in printed
  assert '| my_network | 86.6 | 17.56 | 23.90 |  |  |  |  |  |  |' in printed
  assert not run.find_faults(session.rows)


def test_what_was_found_before_the_time_was_over_is_kept(session, monkeypatch):
  session.budget = Budget(5.0, {'comparison': 1})
  compare(session, monkeypatch, {'deit_b': ROW}, end='time.sleep(600)')
  counted, missing = session.rows.all
  assert counted['parameters'] == ROW['parameters']
  assert 'killed after' in missing['missing']
  assert not run.find_faults(session.rows)
  assert 'its last line' in report.format_results(session.rows.all)


def test_failures_are_named_by_network_or_by_the_last_line(
  session, monkeypatch
):
  failed = {'failed': {'train': 'out of memory'}}
  compare(session, monkeypatch, {'deit_b': ROW | failed}, end='sys.exit(1)')
  (fault,) = run.find_faults(session.rows)
  assert 'deit_b' in fault and 'out of memory' in fault
  compare(session, monkeypatch, {}, end='sys.exit(1)')
  assert 'its last line' in run.find_faults(session.rows)[-1]


def test_accuracy_at_another_size_than_the_counts_says_so():
  row = ROW | {'published_top1': 82.742, 'published_size': 288}
  other = comparison_stage.describe('my_network', row)
  assert other['top1_source'] == 'published, at 288'
  same = comparison_stage.describe('my_network', row | {'image_size': 288})
  assert same['top1_source'] == 'published'


@pytest.mark.slow
def test_table_of_a_tiny_comparison_is_written(session):
  session.settings = dataclasses.replace(
    session.settings,
    comparison=('--models=resmlp_s12', '--image_size=32', '--nospeed'),
  )
  comparison_stage.compare_networks(session)
  (row,) = session.rows.all
  assert row['network'] == 'resmlp_s12' and row['parameters'] > 14e6
  names = {path.name for path in session.directory.iterdir()}
  assert {f'compare.{end}' for end in ('csv', 'md', 'json', 'png')} < names
