"""Several labels an image, end to end: train, evaluate, predict, export."""

import csv
import dataclasses
import io
import json

import commands
import jax
import numpy as np
import pytest
import shapes
from PIL import Image
from sklearn import metrics as reference

from configs import default
from convmixer_jax import export, load_run
from convmixer_jax.analysis import label_metrics
from convmixer_jax.cli.convert import convert
from convmixer_jax.data import sources
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import multi_label, multi_label_report, protocols
from convmixer_jax.pretrained import thresholds
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import loop

pytestmark = pytest.mark.slow

SPLITS = {'train': 320, 'validation': 96, 'test': 96}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run that is stopped early, so that it is not right about all images."""
  directory = tmp_path_factory.mktemp('multi_label')
  data_dir = shapes.write_set(directory / 'data', SPLITS)
  config = shapes.config_of(default.get_config(), data_dir)
  config.num_epochs = 4
  loop.train_and_evaluate(config, str(directory / 'run'))
  return directory / 'run'


def evaluate(network, split='test'):
  config = network.eval_config(40)
  of_run = load_run(network.source).config.dataset
  config.dataset.name, config.dataset.data_dir = 'shapes', of_run.data_dir
  source, classes = protocols.open_test_set(
    config.dataset, split, network.class_names, network.num_classes
  )
  results = multi_label.evaluate_multi_label(network, source, config, classes)
  return results, source, classes, config


def test_run_learns_and_keeps_the_checkpoint_of_best_average_precision(run):
  rows = [
    row for row in load_run(run).metrics if 'eval_mean_average_precision' in row
  ]
  best = max(
    rows, key=lambda row: (row['eval_mean_average_precision'], row['step'])
  )
  assert best['eval_mean_average_precision'] > 0.9
  assert load_run(run).find_step('best') == best['step']
  assert not any('accuracy' in name for row in rows for name in row)
  header = (run / 'metrics.csv').read_text().partition('\n')[0].split(',')
  assert {'train_f1_micro', 'eval_f1_micro', 'eval_f1_macro'} <= set(header)
  assert (run / 'curves.png').exists()


def test_evaluation_equals_that_of_the_run_and_of_scikit_learn(run):
  network = load(str(run))
  assert network.multi_label and network.thresholds is None
  results, source, _, _ = evaluate(network)
  assert results.metrics() == pytest.approx(network.metrics, rel=1e-4)
  labels = np.stack([source[i]['label'] for i in range(96)])
  np.testing.assert_array_equal(results.label, labels)
  np.testing.assert_array_equal(results.number, np.arange(96))
  np.testing.assert_allclose(
    results.logits,
    network.logits([source[i]['image'] for i in range(96)]),
    rtol=1e-4,
    atol=1e-4,
  )
  found = results.metrics()
  np.testing.assert_allclose(
    found['eval_mean_average_precision'],
    reference.average_precision_score(labels, results.logits),
  )
  for average in ('micro', 'macro'):
    np.testing.assert_allclose(
      found[f'eval_f1_{average}'],
      reference.f1_score(labels, results.logits >= 0, average=average),
    )


def test_rows_of_classes_are_those_of_scikit_learn_and_add_up(run, tmp_path):
  network = load(str(run))
  results, source, classes, config = evaluate(network)
  rows = multi_label_report.class_rows(results, classes.names)
  assert [row['name'] for row in rows] == list(shapes.NAMES)
  precision, recall, f1, support = reference.precision_recall_fscore_support(
    results.label, results.predicted(), zero_division=np.nan
  )
  for k, row in enumerate(rows):
    assert row['images'] == support[k]
    assert row['predicted'] == results.predicted()[:, k].sum()
    assert (row['precision'], row['recall'], row['f1']) == pytest.approx(
      (precision[k], recall[k], f1[k])
    )
  for file in ('confusion.png', 'most_wrong.png'):
    (tmp_path / file).write_text('of another network')
  written = multi_label_report.write(
    tmp_path, {'a': 1}, rows, results, classes.names, source, config
  )
  assert written == ['result.json', 'classes.csv', 'most_wrong.png']
  assert not (tmp_path / 'confusion.png').exists()
  assert (tmp_path / 'most_wrong.png').read_bytes()[1:4] == b'PNG'
  table = list(
    csv.DictReader(io.StringIO((tmp_path / 'classes.csv').read_text()))
  )
  assert [int(row['images']) for row in table] == support.tolist()
  assert json.loads((tmp_path / 'result.json').read_text())['classes'] == rows
  lines = multi_label_report.table(rows).splitlines()
  assert len(lines) == 4 and lines[1].split()[:2] == ['disc', str(support[0])]


@pytest.fixture
def own_run(run, tmp_path):
  """A run of the test's own: converted, so with one checkpoint, of step 0."""
  convert(str(run), str(tmp_path / 'own'))
  return str(tmp_path / 'own')


def choose(network, source_of, split='validation'):
  of_run = load_run(source_of).config.dataset
  config = network.eval_config(40)
  config.dataset.name, config.dataset.data_dir = 'shapes', of_run.data_dir
  opened = multi_label.open_threshold_split(network, config.dataset, split)
  return multi_label.store_thresholds(network, *opened, config, split)


def test_chosen_thresholds_are_stored_and_used_everywhere(run, own_run):
  network = load(own_run)
  assert network.multi_label and network.thresholds is None
  chosen = choose(network, run)
  assert load(own_run).thresholds == chosen.thresholds
  assert load(own_run).thresholds_from == 'shapes validation'
  assert 'chosen on shapes validation' in load(own_run).loaded_line

  whole = dataclasses.replace(chosen, source=str(run))
  validation, _, _, _ = evaluate(whole, 'validation')
  before = dataclasses.replace(
    validation, thresholds=np.full(3, label_metrics.DEFAULT_THRESHOLD)
  )
  assert (
    validation.metrics()['eval_f1_macro'] >= (before.metrics()['eval_f1_macro'])
  )
  for name in ('eval_mean_average_precision', 'eval_loss'):
    assert validation.metrics()[name] == before.metrics()[name]

  results, source, _, _ = evaluate(whole)
  images = [source[i]['image'] for i in range(96)]
  for row, found in zip(
    results.predicted(), load(own_run).predict(images), strict=True
  ):
    assert sorted(found.best) == np.flatnonzero(row).tolist()
    assert list(found.probabilities) == sorted(
      found.probabilities, reverse=True
    )


def test_thresholds_travel_with_converted_weights(run, own_run, tmp_path):
  chosen = choose(load(own_run), run)
  for dest in ('weights.safetensors', 'again'):
    convert(own_run, str(tmp_path / dest))
    found = load(str(tmp_path / dest))
    assert found.multi_label and found.thresholds == chosen.thresholds
  convert(str(tmp_path / 'weights.safetensors'), str(tmp_path / 'back'))
  assert load(str(tmp_path / 'back')).thresholds == chosen.thresholds


def test_damaged_thresholds_are_refused_in_one_line(own_run):
  path = load_run(own_run).workdir / thresholds.FILE
  for content, message in (
    ('{', 'is damaged'),
    ('{"0": {"values": [0.5, 2, 0.5], "chosen_on": ""}}', 'from 0 to 1'),
    ('{"0": {"values": [0.5], "chosen_on": ""}}', 'has 1 thresholds'),
    ('[]', 'is damaged'),
  ):
    path.write_text(content)
    with pytest.raises(UserError, match=message):
      load(own_run)
  path.write_text('{"7": {"values": [0.5, 0.5, 0.5], "chosen_on": "x"}}')
  assert load(own_run).thresholds is None  # they are of another step


def test_thresholds_of_seen_images_are_warned_of(run, own_run):
  network = load(own_run)
  of_run = load_run(run)
  network = dataclasses.replace(network, config=of_run.config)
  dataset = of_run.config.dataset
  scored = sources.create_source(dataset, 'test')
  for split, expected in (
    ('validation', []),
    ('test[:10]', ['10 of the 96 images that are scored']),
    ('train', ["the network was trained on ('train')"]),
  ):
    chosen_on = sources.create_source(dataset, split)
    notes = multi_label.threshold_notes(network, dataset, chosen_on, scored)
    assert len(notes) == len(expected)
    for note, part in zip(notes, expected, strict=True):
      assert part in note


def test_exported_probabilities_are_sigmoids_and_the_card_has_thresholds(run):
  network = load(str(run))
  network = dataclasses.replace(
    network, thresholds=(0.2, 0.5, 0.7), thresholds_from='shapes validation'
  )
  config = network.eval_config(1)
  _, source, _, _ = evaluate(network)
  images = np.stack([source[i]['image'] for i in range(8)])
  logits = network.logits(images)
  arguments = network.model, network.variables, config.dataset
  content = export.to_stablehlo(*arguments, probabilities=True)
  found = jax.export.deserialize(bytearray(content)).call(images)
  np.testing.assert_allclose(
    found, label_metrics.sigmoid(logits), rtol=1e-4, atol=1e-5
  )
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(
    export.to_onnx(*arguments, probabilities=True)
  )
  (found,) = session.run(None, {'images': images})
  np.testing.assert_allclose(
    found, label_metrics.sigmoid(logits), rtol=1e-4, atol=1e-5
  )
  card = export.model_card(network, config, [export.ONNX])
  assert card['output']['values'] == 'logits'
  assert card['output']['thresholds'] == [0.2, 0.5, 0.7]
  assert 'sigmoid' in card['output']['probabilities']
  assert card['accuracy'].keys() >= {'eval_mean_average_precision'}


def test_commands_evaluate_and_predict(run, own_run, tmp_path):
  data_dir = load_run(run).config.dataset.data_dir
  done = commands.run(
    [
      *('convmixer_jax', 'evaluate', f'--source={own_run}'),
      *('--dataset=shapes', f'--data_dir={data_dir}', '--split=test'),
      *('--choose_thresholds=validation', f'--output={tmp_path / "out"}'),
    ]
  )
  assert done.returncode == 0, done.stderr
  assert 'chosen on shapes validation' in done.stdout
  assert 'mean average precision' in done.stdout
  assert 'WARNING: the thresholds' not in done.stdout
  assert 'top-1' not in done.stdout
  result = json.loads((tmp_path / 'out' / 'result.json').read_text())
  assert result['eval_mean_average_precision'] > 0.9

  for number, (image, _) in enumerate(shapes.examples(12, seed=2)):
    Image.fromarray(image).save(tmp_path / f'{number:02}.png')
  done = commands.run(
    [
      *('convmixer_jax', 'predict', f'--source={own_run}'),
      *(str(tmp_path / f'{number:02}.png') for number in range(12)),
      '--format=csv',
    ]
  )
  assert done.returncode == 0, done.stderr
  rows = list(csv.DictReader(done.stdout.splitlines()))
  named = {row['file'] for row in rows}
  assert len(named) == 12
  classes = load(own_run).class_thresholds()
  for row in rows:
    if row['class']:
      assert float(row['probability']) >= classes[int(row['class'])] - 1e-6
