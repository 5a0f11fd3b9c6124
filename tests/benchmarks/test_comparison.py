"""The comparison of networks: counts, names, files and interruptions."""

import csv
import functools
import json

import pytest
from etils import epath

from convmixer_jax.benchmarks.comparison import (
  measure,
  picture,
  report,
  run,
)
from convmixer_jax.benchmarks.comparison.networks import (
  Network,
  choose_networks,
)
from convmixer_jax.benchmarks.comparison.rows import Rows
from convmixer_jax.errors import UserError

# Counted by timm 1.0.31 and fvcore-like hooks: parameters; GMACs with depthwise
# convolutions; millions of activations, as in timm's tables.
TIMM = {
  'resnet152': (60_192_808, 11.514, 22.56),
  'deit_base_patch16_224': (86_567_656, 17.564, 23.90),
  'vit_base_patch16_224': (86_567_656, 17.564, 23.90),
  'resmlp_12_224': (15_350_872, 3.010, 5.50),
  'resmlp_24_224': (30_020_680, 5.961, 10.91),
  'resmlp_36_224': (44_690_488, 8.913, 16.33),
  'resmlp_big_24_224': (129_138_280, 100.231, 87.31),
  'resmlp_b24_16': (115_736_776, 23.021, 21.83),  # of timm's class, unnamed
  'mixer_b16_224': (59_880_472, 12.602, 14.53),
  'convmixer_1536_20': (51_625_960, 51.099, 64.49),
  'convmixer_768_32': (21_110_248, 20.677, 51.12),
  'convmixer_1024_20_ks9_p14': (24_383_464, 5.949, 10.75),
}
# Without depthwise convolutions, as published, and BatchNorm's part of it: two
# multiplications with additions for each of three norms' elements.
PUBLISHED_GMACS = {
  'convmixer_1536_20': 48.68,
  'convmixer_768_32': 19.55,
  'convmixer_1024_20_ks9_p14': 5.55,
}
TINY = {
  'width': 8,
  'depth': 1,
  'patch_size': 4,
  'kernel_size': 3,
  'activation': 'gelu',
}
NETWORKS = [
  Network('small', 'convmixer', TINY),
  Network('wide', 'convmixer', {**TINY, 'width': 16}),
]
COUNTS_ONLY = run.Options(image_size=8, speed=False)
WITH_SPEED = run.Options(image_size=8)


@functools.cache
def counted_by_name(name):
  (network,) = choose_networks([name])
  return run.count(network, 224)


def read_csv(directory):
  return list(
    csv.DictReader((directory / 'compare.csv').read_text().splitlines())
  )


def cases(names):
  """Returns the names, most of them slow: each network is traced."""
  quick = ('resmlp_12_224', 'resmlp_b24_16', 'convmixer_1024_20_ks9_p14')
  return [
    name if name in quick else pytest.param(name, marks=pytest.mark.slow)
    for name in names
  ]


@pytest.mark.parametrize('name', cases(TIMM))
def test_counts_equal_those_of_timm(name):
  counted = counted_by_name(name)
  assert (
    counted['parameters'],
    round(counted['macs'] / 1e9, 3),
    round(counted['activations'] / 1e6, 2),
  ) == TIMM[name]


@pytest.mark.parametrize('name', cases(PUBLISHED_GMACS))
def test_published_macs_of_convmixer_leave_out_depthwise_convolutions(name):
  counted = counted_by_name(name)
  norms = 2 * counted['activations']  # all outputs but the head's have one
  without = counted['macs_without_depthwise'] + norms
  assert without / 1e9 == pytest.approx(PUBLISHED_GMACS[name], abs=0.006)


def names_of(*names):
  return [network.name for network in choose_networks(names)]


def test_the_papers_networks_come_first():
  names = names_of('all')
  paper = names_of('paper')
  assert names[: len(paper)] == paper
  assert paper[:2] == ['1536_20', '768_32']
  assert len(set(names)) == len(names)
  assert names_of('mixer_b16', 'deit_b', '1536_20') == [
    '1536_20',
    'deit_b',
    'mixer_b16',
  ]


def test_networks_are_found_by_each_of_their_names():
  for name in ('vit:deit_b', 'deit_b', 'deit_base_patch16_224'):
    assert names_of(name) == ['deit_b']
  assert {'resmlp_s24', 'resmlp_b24_8'} < set(names_of('resmlp'))


@pytest.mark.parametrize(
  ('names', 'problem'),
  [
    (['deit_c'], "'deit_c' is unknown; did you mean deit_b"),
    (['vit:768_32'], "'vit:768_32' is unknown"),
    (['1536_20', ''], "'' is unknown"),
    ([], '--models is empty'),
    (['no_module:NET'], "there is no module 'no_module'"),
  ],
)
def test_wrong_names_are_refused_in_one_line(names, problem):
  with pytest.raises(UserError, match=problem) as caught:
    choose_networks(names)
  assert '\n' not in str(caught.value)


def silent(line):
  del line


def test_csv_markdown_and_picture_are_written(tmp_path):
  directory = epath.Path(tmp_path)
  chosen = [*choose_networks(['deit_b']), *NETWORKS]
  options = run.Options(speed=False)
  chosen = [network for network in chosen if network.name != 'wide']
  run.run(chosen, options, directory, silent)
  lines = read_csv(tmp_path)
  assert list(lines[0]) == list(report.COLUMNS)
  assert [line['network'] for line in lines] == ['deit_b', 'small']
  assert lines[0]['parameters'] == '86567656'
  assert lines[0]['paper_top1'] == '81.8'
  assert lines[0]['published_top1'] == '81.98'
  assert lines[0]['timm_name'] == 'deit_base_patch16_224'
  assert lines[1]['paper_top1'] == lines[1]['forward_images_per_sec'] == ''
  text = (tmp_path / 'compare.md').read_text()
  paper, counts = text.split('## Counts')
  assert '| DeiT-B | 86.6 | 17.56 | 81.80 | 792 | 300 |' in paper
  assert '| deit_b | 224 | 86,567,656 | 17.56 | 17.56 | 23.90 |' in counts
  assert 'images/s here' not in text
  assert (tmp_path / 'compare.png').read_bytes().startswith(b'\x89PNG')


def test_networks_that_a_picture_leaves_out_are_named(tmp_path):
  rows = Rows({})
  row = {'architecture': 'a', 'parameters': 1, 'macs': 10**9}
  rows.add('small', row | {'published_top1': 70.0})
  rows.add('my_$network', row)
  line = 'not shown, accuracy unknown: my_$network'
  assert picture.describe_left_out(rows) == [line]
  figure = picture.plot(rows)
  assert figure.get_supxlabel() == line.replace('$', r'\$')
  assert figure.axes[0].get_xlabel() == 'GMACs for one image'

  said = []
  run.run(NETWORKS, COUNTS_ONLY, epath.Path(tmp_path), said.append)
  assert said == ['compare.png: not shown, accuracy unknown: small, wide']
  assert not (tmp_path / 'compare.png').exists()

  rows.settings = {'device': 'x', 'batch_size': 2, 'dtype': 'float32'}
  rows.add('fast', row | {'measured_top1': 1.0, 'forward_images_per_sec': 5.0})
  assert picture.describe_left_out(rows) == [
    line,
    'not shown, speed unknown: small',
  ]
  assert picture.plot(rows).axes[0].get_xlabel().startswith('images/s of inf')


def test_the_papers_rows_come_first_also_of_a_comparison_that_continues(
  tmp_path,
):
  directory = epath.Path(tmp_path)
  run.run(NETWORKS, COUNTS_ONLY, directory, silent)
  # As if they had been compared before.
  rows = Rows({'image_size': 8}, directory)
  for name in ('deit_b', '768_32'):
    rows.add(name, {**rows.by_name['small'], 'activations': 1})
  run.run(NETWORKS[:1], COUNTS_ONLY, directory, silent)
  names = [line['network'] for line in read_csv(tmp_path)]
  assert names == ['768_32', 'deit_b', 'small', 'wide']


class Machine:
  """Stands for the processes that measure; stops after some measurements."""

  def __init__(self, monkeypatch, stops_after=None, device='card'):
    self.measured = []
    self._stops_after = stops_after
    found = {'platform': 'gpu', 'device': device}
    monkeypatch.setattr(measure, 'find_device', lambda: found)
    monkeypatch.setattr(measure, 'measure', self.measure)

  def measure(self, case, kinds, *, scan):
    assert scan  # on an accelerator
    for kind in kinds:
      if len(self.measured) == self._stops_after:
        raise KeyboardInterrupt
      self.measured.append((case.fields['width'], kind))
      if (case.fields['width'], kind) == (16, 'train'):
        yield kind, {'failed': 'out of memory'}
      else:
        yield kind, {'images_per_sec': 10.0, 'memory_mib': 2.0}


def test_an_interrupted_comparison_continues(tmp_path, monkeypatch):
  directory = epath.Path(tmp_path)
  machine = Machine(monkeypatch, stops_after=2)
  with pytest.raises(KeyboardInterrupt):
    run.run(NETWORKS, WITH_SPEED, directory, silent)
  assert machine.measured == [(8, 'forward'), (8, 'train')]
  small, wide = read_csv(tmp_path)
  assert small['train_images_per_sec'] == '10.0'
  assert wide['parameters'] and not wide['forward_images_per_sec']

  machine = Machine(monkeypatch)
  rows = run.run(NETWORKS, WITH_SPEED, directory, silent)
  assert machine.measured == [(16, 'forward'), (16, 'train')]
  assert rows.value('wide', 'failed') == {'train': 'out of memory'}
  assert run.list_failed(NETWORKS, WITH_SPEED, rows) == ['wide train']
  assert run.list_failed(NETWORKS, COUNTS_ONLY, rows) == []
  text = (tmp_path / 'compare.md').read_text()
  assert '- wide, train: out of memory' in text
  assert '64 images in float32' in text

  # What failed is tried again; what was measured is not.
  machine = Machine(monkeypatch)
  run.run(NETWORKS, WITH_SPEED, directory, silent)
  assert machine.measured == [(16, 'train')]


def test_own_network_that_was_changed_is_measured_again(tmp_path, monkeypatch):
  Machine(monkeypatch)
  run.run(NETWORKS, WITH_SPEED, epath.Path(tmp_path), silent)
  machine = Machine(monkeypatch)
  changed = [Network('small', 'convmixer', {**TINY, 'width': 24}), NETWORKS[1]]
  run.run(changed, WITH_SPEED, epath.Path(tmp_path), silent)
  assert machine.measured == [(24, 'forward'), (24, 'train'), (16, 'train')]
  assert read_csv(tmp_path)[0]['parameters'] == '27160'


def test_measurements_of_other_settings_are_not_mixed(tmp_path, monkeypatch):
  directory = epath.Path(tmp_path)
  run.run(NETWORKS, COUNTS_ONLY, directory, silent)
  Machine(monkeypatch)
  run.run(NETWORKS, WITH_SPEED, directory, silent)  # adds to the counts
  for options, problem in (
    (run.Options(image_size=8, batch_size=2), 'batch_size 64, not 2'),
    (run.Options(image_size=8, dtype='bfloat16'), 'dtype float32, not bfl'),
    (run.Options(), 'image_size 8, not own'),
  ):
    with pytest.raises(UserError, match=problem):
      run.run(NETWORKS, options, directory, silent)
  Machine(monkeypatch, device='another card')
  with pytest.raises(UserError, match='device card, not another card'):
    run.run(NETWORKS, WITH_SPEED, directory, silent)
  for content in ('[]', '{"settings": {}, "rows": {"small": 1}}'):
    (tmp_path / 'compare.json').write_text(content)
    with pytest.raises(UserError, match='is not a file of this command'):
      run.run(NETWORKS, WITH_SPEED, directory, silent)


def test_an_image_size_that_a_network_refuses_is_reported_in_one_line():
  options = run.Options(image_size=100, speed=False)
  with pytest.raises(UserError, match='patch_size = 16 does not divide'):
    run.run(choose_networks(['deit_b']), options, say=silent)


@pytest.mark.slow
def test_speed_and_memory_are_measured_in_a_process(tmp_path):
  directory = epath.Path(tmp_path)
  options = run.Options(image_size=8, batch_size=2)
  rows = run.run(NETWORKS[:1], options, directory, silent)
  row = json.loads((tmp_path / 'compare.json').read_text())['rows']['small']
  assert row == rows.by_name['small']
  assert row['failed'] == {}
  for kind in ('forward', 'train'):
    assert row[f'{kind}_images_per_sec'] > 0
  # Parameters, gradients and two moments in float32, at least.
  assert row['train_memory_mib'] > 4 * row['parameters'] * 4 / 2**20
