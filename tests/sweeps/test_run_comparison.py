"""Comparisons of run directories that were written by hand."""

import csv
import io
import json
import math
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from configs import default
from convmixer_jax.checkpoints.workdir import config_to_json
from convmixer_jax.cli.run_comparison import compare_runs
from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import formats, page, svg
from convmixer_jax.sweeps.comparison import compare
from convmixer_jax.sweeps.results import find_runs
from convmixer_jax.sweeps.tables import load_runs

CLASSES = [str(number) for number in range(10)]


def write_run(directory, accuracies, *, epochs=None, data=None, **changes):
  """Writes a run whose evaluations have these accuracies, one an epoch.

  `data` stands for the content of what it was evaluated on.
  """
  config = default.get_config()
  config.update_from_flattened_dict(
    {'model.width': 8, 'model.depth': 1, 'num_epochs': len(accuracies)}
    | changes
  )
  if epochs:
    config.num_epochs = epochs
  directory.mkdir(parents=True)
  (directory / 'config.json').write_text(config_to_json(config))
  (directory / 'labels.json').write_text(json.dumps(CLASSES))
  if data:
    split = {'num_examples': 9, 'content': data}
    names = {'name': 'folder', 'config': '', 'version': ''}
    identity = {**names, 'class_names': CLASSES, 'splits': {'test': split}}
    (directory / 'data.json').write_text(json.dumps(identity))
  lines = ['step,epoch,eval_loss,eval_accuracy,images_per_sec']
  for epoch, accuracy in enumerate(accuracies, start=1):
    lines.append(f'{11 * epoch},{epoch},1,{accuracy},{1000 * epoch}')
    (directory / 'checkpoints' / str(11 * epoch)).mkdir(parents=True)
  (directory / 'metrics.csv').write_text('\n'.join(lines) + '\n')


@pytest.fixture
def runs(tmp_path):
  """Of two widths: 0.5, 0.6, 0.7 and 0.7, 0.9, 0.8 after the last epoch."""
  for width, last in ((8, (0.5, 0.6, 0.7)), (16, (0.7, 0.9, 0.8))):
    for seed, accuracy in enumerate(last):
      write_run(
        tmp_path / 'runs' / f'width{width:02}-seed{seed}',
        [0.1, accuracy],
        seed=seed,
        **{'model.width': width},
      )
  return tmp_path / 'runs'


def test_rows_are_what_differs_but_for_the_seed(runs):
  found = compare(find_runs([runs]))
  assert [row.name for row in found.rows] == ['width08', 'width16']
  assert found.metric == 'eval_accuracy' and found.reference == 'width08'
  first, second = found.rows
  assert first.metric.mean == pytest.approx(0.6)
  assert first.difference is None
  assert second.difference.mean == pytest.approx(0.2)
  # Student's t for 2 degrees of freedom is 4.3027, by the tables.
  expected = pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
  assert first.metric.half_width == expected
  assert second.difference.half_width == expected
  assert second.settings == {'model.width': 16}
  assert second.images_per_sec == 2000
  assert first.parameters[0] < second.parameters[0]
  assert first.macs[0] < second.macs[0]
  assert [epoch for epoch, _ in second.curve] == [1, 2]


def test_reference_may_be_a_row_or_a_run(runs):
  for reference in ('width16', 'width16-seed2'):
    found = compare(find_runs([runs]), reference=reference)
    assert found.rows[0].difference.mean == pytest.approx(-0.2)
  with pytest.raises(UserError, match='there are width08, width16'):
    compare(find_runs([runs]), reference='width9')


def test_by_joins_runs_and_says_what_else_differs(runs):
  write_run(
    runs / 'patch2-seed0', [0.1, 0.9], **{'model.patch_size': 2, 'seed': 0}
  )
  write_run(
    runs / 'patch2w-seed0',
    [0.1, 0.95],
    **{'model.patch_size': 2, 'seed': 0, 'model.width': 16},
  )
  found = compare(find_runs([runs]), by=['config.model.width'])
  assert sorted(row.name for row in found.rows) == ['width=16', 'width=8']
  assert {row.metric.num_values for row in found.rows} == {4}
  assert all(row.mixed == ['model.patch_size'] for row in found.rows)
  (other,) = [row for row in found.rows if row.difference]
  assert other.difference.num_values == 4  # paired by seed and patch size
  text = formats.to_text(found)
  assert 'The runs of width=8 also differ in model.patch_size.' in text
  with pytest.raises(UserError, match=r'did you mean model\.width'):
    compare(find_runs([runs]), by=['model.wdith'])
  with pytest.raises(UserError, match='--by has seed'):
    compare(find_runs([runs]), by=['seed'])


def test_keys_that_differ_between_rows_are_named(runs):
  for seed in (0, 1, 2):
    write_run(
      runs / f'long-seed{seed}',
      [0.1, 0.2, 0.9],
      **{'model.width': 24, 'seed': seed},
    )
  text = formats.to_text(compare(find_runs([runs]), by=['model.width']))
  assert 'The rows also differ in num_epochs; their differences may' in text
  text = formats.to_text(compare(find_runs([runs])))
  assert 'Rows differ in model.width, num_epochs.' in text
  assert 'also differ' not in text


def test_runs_of_other_images_are_not_one_row(tmp_path):
  for seed, data in ((0, 'cats'), (1, 'cats'), (0, 'dogs'), (1, 'dogs')):
    write_run(
      tmp_path / f'{data}-seed{seed}',
      [0.5],
      data=data,
      seed=seed,
      **{'dataset.name': 'folder', 'dataset.data_dir': f'/{data}'},
    )
  found = compare(find_runs([tmp_path]))
  assert [row.name for row in found.rows] == ['cats', 'dogs']
  assert list(found.rows[0].settings) == ['dataset.content']
  text = formats.to_text(found)
  assert 'not evaluated on the same images' in text
  assert 'folder test cats, folder test dogs' in text


def test_same_images_may_be_anywhere_and_have_any_name(tmp_path):
  for seed, place in enumerate(['here', 'there']):
    write_run(
      tmp_path / f'run-seed{seed}',
      [0.5],
      data='cats',
      seed=seed,
      **{'dataset.name': 'folder', 'dataset.data_dir': f'/{place}'},
    )
  write_run(tmp_path / 'tfds', [0.5], data='cats', **{'dataset.name': 'cats'})
  found = compare(find_runs([tmp_path]))
  assert [len(row.runs) for row in found.rows] == [2, 1]
  assert 'same images' not in formats.to_text(found)
  write_run(tmp_path / 'old', [0.5], **{'dataset.name': 'dogs'})
  text = formats.to_text(compare(find_runs([tmp_path])))
  assert 'not evaluated on the same images' in text


@pytest.mark.parametrize(
  ('by', 'paired_by'),
  [
    (['model.width', 'model.depth'], ['seed']),
    (['model.width'], ['seed', 'model.depth']),
  ],
)
def test_rates_that_were_chosen_for_each_row_do_not_hinder_pairing(
  tmp_path, by, paired_by
):
  for width in (8, 16):
    for depth in (1, 2):
      for seed in (0, 1):
        write_run(
          tmp_path / f'w{width}d{depth}-seed{seed}',
          [width / 100 + depth / 10 + seed / 1000],
          **{'model.width': width, 'model.depth': depth, 'seed': seed},
          learning_rate=width * depth / 1000,
        )
  found = compare(find_runs([tmp_path]), by=by, reference='w8d1-seed0')
  assert found.paired_by == paired_by
  for row in found.rows:
    if row.difference and row.settings.get('model.depth', 1) == 1:
      assert row.difference.mean == pytest.approx(0.08)
      assert row.difference.num_values == len(row.runs)


def test_trials_that_failed_have_their_reason(tmp_path):
  write_run(tmp_path / 'trials' / 'a-seed0', [0.5], epochs=2)
  records = tmp_path / 'sweep' / 'trials' / 'a-seed0'
  records.mkdir(parents=True)
  (records / 'error.txt').write_text('it diverged\n')
  (run,) = find_runs([tmp_path / 'trials'])
  assert run.problem == 'failed: it diverged'


def test_runs_that_are_not_complete_are_named_and_left_out(runs):
  write_run(runs / 'short-seed0', [0.9], epochs=4, **{'model.depth': 2})
  write_run(runs / 'bad-seed0', [0.9], epochs=4, **{'model.depth': 3})
  (runs / 'sweep' / 'bad-seed0').mkdir(parents=True)
  (runs / 'sweep' / 'bad-seed0' / 'error.txt').write_text('out of memory\n')
  later = runs / 'sweep' / 'later-seed0'
  later.mkdir()
  (later / 'config.json').write_text(
    (runs / 'bad-seed0' / 'config.json').read_text()
  )
  found = compare(find_runs([runs]))
  assert len(found.rows) == 2
  assert formats.to_text(found).endswith(
    'Left out: bad-seed0 (failed: out of memory); later-seed0 (not started); '
    'short-seed0 (unfinished: 25% of its steps).'
  )
  (runs / 'short-seed0' / 'checkpoints' / '11').rmdir()
  with pytest.raises(UserError, match='no run is complete: short-seed0'):
    compare(find_runs([runs / 'short-seed0']))


def test_rows_are_in_the_order_of_their_numbers(tmp_path):
  for depth in (10, 9, 2):
    write_run(tmp_path / f'depth{depth}', [0.5], **{'model.depth': depth})
  names = [row.name for row in compare(find_runs([tmp_path])).rows]
  assert names == ['depth2', 'depth9', 'depth10']


def test_run_without_its_last_checkpoint_is_not_complete(runs):
  (runs / 'width08-seed0' / 'checkpoints' / '22').rmdir()
  (run, *_) = find_runs([runs])
  assert run.problem == 'unfinished: 100% of its steps'


def test_single_seed_has_no_interval_and_it_is_said(tmp_path):
  for depth in (1, 2):
    write_run(tmp_path / f'depth{depth}', [0.5], **{'model.depth': depth})
  found = compare(find_runs([tmp_path / 'depth1', tmp_path / 'depth2']))
  assert [row.name for row in found.rows] == ['depth1', 'depth2']
  text = formats.to_text(found)
  assert '0.5000 (1 run)' in text and '+0.0000 (1 pair)' in text
  assert 'One run has no interval' in text
  page.to_html(found)


def test_seeds_that_are_not_common_are_not_compared(tmp_path):
  write_run(tmp_path / 'a', [0.5], seed=1)
  write_run(tmp_path / 'b', [0.5], seed=2, **{'model.depth': 2})
  text = formats.to_text(compare(find_runs([tmp_path])))
  assert 'no seed in common' in text and 'different seeds' in text


def test_one_experiment_may_not_count_twice(runs, tmp_path):
  write_run(tmp_path / 'again', [0.1, 0.5], seed=0)
  with pytest.raises(UserError, match='width08-seed0 and again have the same'):
    compare(find_runs([runs, tmp_path / 'again']))


def test_other_directories_are_refused(tmp_path, runs):
  with pytest.raises(UserError, match='neither a run directory nor one'):
    find_runs([tmp_path / 'nothing'])
  with pytest.raises(UserError, match='has no eval_top1; give one of eval_'):
    compare(find_runs([runs]), metric='eval_top1')


def test_metric_may_be_another(runs):
  found = compare(find_runs([runs]), metric='eval_loss')
  assert found.rows[0].metric.mean == 1


def test_values_that_are_not_finite_have_no_point(tmp_path):
  write_run(tmp_path / 'a', [0.1, 0.5])
  write_run(tmp_path / 'b', [0.2, math.nan], **{'model.depth': 2})
  write_run(tmp_path / 'c', [math.nan, math.inf], **{'model.depth': 3})
  found = compare(find_runs([tmp_path]))
  assert formats.to_text(found).count('nan') >= 1
  assert svg.points(found).count('<circle') == 1
  for text in (page.to_html(found), svg.curves(found), svg.points(found)):
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
  for row in ('b', 'c'):  # all of them
    found = compare(find_runs([tmp_path / row]))
    page.to_html(found)


def test_csv_has_all_digits(runs):
  text = formats.to_csv(compare(find_runs([runs])))
  first, second = csv.DictReader(io.StringIO(text))
  assert first['difference'] == '' and first['model.width'] == '8'
  assert float(second['difference']) == pytest.approx(0.2)
  assert float(second['eval_accuracy_low']) < 0.8
  assert second['pairs'] == '3'


def test_markdown_is_a_table(runs):
  text = formats.to_markdown(compare(find_runs([runs])))
  title, empty, *lines = text.splitlines()
  assert (title, empty) == ('# Comparison of 2 rows by eval_accuracy', '')
  assert {line.count('|') for line in lines[:4]} == {8}
  assert '| 0.8000 ± 0.2484 | +0.2000 ± 0.2484 |' in lines[3]
  write_run(runs / '<b>|-seed0', [0.1, 0.3], **{'model.depth': 2})
  text = formats.to_markdown(compare(find_runs([runs])))
  assert r'| &lt;b>\| |' in text


def test_page_is_whole_and_asks_for_nothing(runs):
  write_run(runs / '<b>&"-seed0', [0.1, 0.3], **{'model.depth': 2})
  text = page.to_html(compare(find_runs([runs])))
  assert not re.search(r'https?:|src=|@import|url\((?!#)', text)
  assert '<b>&"' not in text and '&lt;b&gt;&amp;' in text
  for picture in re.findall(r'<svg.*?</svg>', text, re.DOTALL):
    ET.fromstring(picture)
  assert text.count('<tr data-row=') == 3


def test_pictures_have_each_row_within_their_bounds(runs):
  found = compare(find_runs([runs]))
  for picture in (svg.points(found), svg.curves(found)):
    root = ET.fromstring(picture)
    assert len(root.findall("g[@class='row']")) == 2
    width, height = map(float, root.get('viewBox').split()[2:])
    for circle in root.iter('circle'):
      assert 0 < float(circle.get('cx')) < width
    for line in root.iter('polyline'):
      for place in line.get('points').split():
        x, y = map(float, place.split(','))
        assert 0 <= x <= width and 0 <= y <= height


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (0.871, 0.902, [0.88, 0.89, 0.9]),
    (1, 30, [5, 10, 15, 20, 25, 30]),
  ],
)
def test_ticks_are_round(low, high, expected):
  assert svg.ticks(low, high) == pytest.approx(expected)


def test_rows_differ_in_their_lines():
  assert len({svg.style(i) for i in range(32)}) == 32


def test_files_are_written(runs, tmp_path, capsys):
  output = tmp_path / 'out'
  compare_runs([str(runs)], [], None, None, str(output))
  assert sorted(path.name for path in output.iterdir()) == [
    *('compare.csv', 'compare.html', 'compare.md', 'compare.png'),
  ]
  assert (output / 'compare.png').read_bytes()[1:4] == b'PNG'
  assert 'width16' in capsys.readouterr().out


def test_table_of_pandas_has_a_row_a_run(runs):
  pandas = pytest.importorskip('pandas')
  (runs / 'width16-seed2' / 'metrics.csv').unlink()
  table = load_runs(runs)
  assert isinstance(table, pandas.DataFrame) and len(table) == 6
  assert list(table.columns[:4]) == ['model.width', 'seed', 'state', 'epoch']
  assert table.loc['width08-seed2', 'eval_accuracy'] == 0.7
  assert table.loc['width16-seed2', 'state'] == 'unfinished: 0% of its steps'
  means = table.groupby('model.width').eval_accuracy.mean()
  assert means[8] == pytest.approx(0.6)
  curves = load_runs(runs, curves=True)
  assert len(curves) == 10
  assert curves.loc['width08-seed0', 'eval_accuracy'].tolist() == [0.1, 0.5]


def test_missing_pandas_is_named(runs, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pandas', None)
  with pytest.raises(UserError, match=r"pip install 'convmixer-jax\[pandas\]'"):
    load_runs(runs)
