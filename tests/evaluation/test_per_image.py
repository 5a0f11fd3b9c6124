"""Per-image results, metrics of classes, and confusions, against NumPy."""

import csv
import dataclasses
import json
import tracemalloc

import commands
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from convmixer_jax.analysis import plots
from convmixer_jax.data import sources
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import protocols, report
from convmixer_jax.evaluation.per_image import (
  PerImageResults,
  evaluate_per_image,
)
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.runs import load_run


def evaluate(network, batch_size, image_size=None, split='test'):
  config = network.eval_config(batch_size, image_size)
  config.dataset.name = 'digits'
  source, classes = protocols.open_test_set(
    config.dataset, split, network.class_names, 10
  )
  return evaluate_per_image(network, source, config, classes)


def test_metrics_equal_those_of_the_run_for_any_batch_size(trained_run):
  network = load(f'{trained_run}@newest')
  expected = {
    name: value
    for name, value in load_run(trained_run).metrics[-1].items()
    if name.startswith('eval')
  }
  whole = evaluate(network, 355)
  assert whole.metrics() == pytest.approx(expected, rel=1e-5)
  parts = evaluate(network, 48)
  assert parts.metrics() == pytest.approx(expected, rel=1e-5)
  np.testing.assert_array_equal(parts.best, whole.best)
  np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-3, atol=1e-5)
  assert list(whole.number) == list(range(355))
  np.testing.assert_allclose(
    whole.probability[whole.correct], np.exp(-whole.loss[whole.correct]), 1e-5
  )


def test_crop_fraction_is_kept_at_another_image_size(trained_run):
  network = load(f'{trained_run}@newest')
  network = dataclasses.replace(network, eval_crop_fraction=0.75)
  results = evaluate(network, 355, image_size=12)

  dataset = load_run(trained_run).config.dataset
  source = sources.create_source(dataset, 'test')
  images = [
    Image.fromarray(source[i]['image'])
    .resize((16, 16), Image.Resampling.BICUBIC)
    .crop((2, 2, 14, 14))
    for i in range(355)
  ]
  pixels = (np.stack(images) / 255 - 0.5) / 0.25
  logits = network.model.apply(network.variables, pixels, train=False)
  logits = np.asarray(logits, np.float64)
  labels = np.array([source[i]['label'] for i in range(355)])
  losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(355), labels]
  np.testing.assert_allclose(results.loss, losses, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(results.label, labels)
  np.testing.assert_array_equal(results.best[:, 0], logits.argmax(-1))

  with pytest.raises(UserError, match='images of 8 x 8 are smaller than a pa'):
    wide = network.fields | {'patch_size': 9}
    dataclasses.replace(network, fields=wide).eval_config(1, 8)


@pytest.fixture
def results():
  """A hundred images of five classes, of which the last has no image."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, 4, 100)
  best = np.argsort(rng.random((100, 5)) - 0.4 * np.eye(5)[label], axis=-1)[
    :, :3
  ]
  best[label == 2] = [2, 0, 1]  # always right
  return PerImageResults(
    number=np.arange(100),
    label=label,
    best=best,
    probability=rng.random(100),
    loss=rng.random(100),
    correct=best[:, 0] == label,
    correct_top5=(best == label[:, None]).any(-1),
    num_classes=5,
    seconds=1.0,
  )


def test_per_class_rows_and_confusions_equal_numpy(results):
  confusion = {(i, k): count for i, k, count in results.confusion().tolist()}
  for i in range(5):
    for k in range(5):
      both = (results.label == i) & (results.best[:, 0] == k)
      assert confusion.get((i, k), 0) == both.sum()

  rows = results.per_class()
  assert rows[4] == {
    'images': 0,
    'accuracy': None,
    'accuracy_top5': None,
    'most_confused_with': None,
    'num_confused': 0,
  }
  assert rows[2]['accuracy'] == 1.0 and rows[2]['most_confused_with'] is None
  for k in (0, 1, 3):
    of_class = results.label == k
    row = rows[k]
    assert row['images'] == of_class.sum()
    assert row['accuracy'] == pytest.approx(results.correct[of_class].mean())
    assert row['accuracy_top5'] == pytest.approx(
      results.correct_top5[of_class].mean()
    )
    counts = np.bincount(results.best[of_class & ~results.correct, 0])
    assert (
      row['num_confused'] == counts.max() == counts[row['most_confused_with']]
    )


def test_table_shows_the_worst_of_many_classes(results):
  names = ['ant', 'bee', 'cat', 'dog', 'elk']
  rows = report.class_rows(results, names)
  few = report.table(rows).splitlines()
  assert [line.split()[0] for line in few[1:]] == names[:4]  # no elk to show
  assert rows[0]['most_confused_with'] in names
  many = report.table(rows * 10).splitlines()
  assert many[0].startswith('the 20 worst classes')
  shares = [float(line.split()[2]) for line in many[1:]]
  assert len(shares) == 20 and shares == sorted(shares) and max(shares) < 100


def texts(figure):
  return {text.get_text() for text in figure.findobj(Text)}


def test_confusion_matrix_names_few_classes_or_the_worst_pairs():
  names = [f'class {k}' for k in range(40)]
  pairs = np.array([[3, 5, 93], *([k, k, 7] for k in range(40))])
  few = plots.confusion_matrix(pairs[:11], names[:10])
  assert texts(few) >= {'93', *names[:10]}
  many = plots.confusion_matrix(pairs, names)
  assert '93 of 100' in texts(many)
  assert 'class 3 \u2192 class 5' in texts(many)
  assert names[20] not in texts(many)


def test_confusion_matrix_of_thousands_of_classes_has_those_with_errors():
  names = [f'class {k}' for k in range(20_000)]
  pairs = np.array([[19_990, 19_999, 5], *([k, k, 7] for k in range(2000))])
  figure = plots.confusion_matrix(pairs, names)
  assert 'class 19990 \u2192 class 19999' in texts(figure)
  assert 'true class (of the 1,000 with the most errors)' in texts(figure)
  (cells,) = (image for axes in figure.axes for image in axes.images)
  assert cells.get_array().shape == (1000, 1000)
  assert cells.get_array()[-2, -1] == 1.0  # of the true class


def test_rows_of_many_classes_take_memory_linear_in_classes():
  images = np.arange(8)
  results = PerImageResults(
    number=images,
    label=images,
    best=images[:, None] + 1,
    probability=np.ones(8),
    loss=np.ones(8),
    correct=np.zeros(8, bool),
    correct_top5=np.zeros(8, bool),
    num_classes=20_000,
    seconds=1.0,
  )
  tracemalloc.start()
  rows = results.per_class()
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(rows) == 20_000 and rows[7]['most_confused_with'] == 8
  assert peak < 1000 * len(rows)  # a matrix would take 3.2 GB


def run_tool(*arguments):
  return commands.run(['convmixer_jax', 'evaluate', *arguments])


@pytest.mark.slow
def test_command_writes_results_that_equal_those_of_the_run(
  trained_run, tmp_path
):
  source = f'--source={trained_run}@newest'
  done = run_tool(source, f'--output={tmp_path / "a/b"}')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[0] == (
    f'Loaded {trained_run}, step 40 (newest): ConvMixer-16/2'
  )
  run = load_run(trained_run)
  result = json.loads((tmp_path / 'a/b/result.json').read_text())
  for name, value in run.metrics[-1].items():
    if name.startswith('eval'):
      assert result[name] == pytest.approx(value, rel=1e-5)
  top1 = 100 * run.metrics[-1]['eval_accuracy']
  assert f'top-1 {top1:.2f} %' in done.stdout
  assert (result['dataset'], result['split']) == ('digits', 'test')
  assert result['images'] == 355 and result['images_left_out'] == 0
  assert result['images_per_sec'] > 0

  with (tmp_path / 'a/b/classes.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['name'] for row in rows] == list('0123456789')
  right = sum(int(row['images']) * float(row['accuracy']) for row in rows)
  assert right / 355 == pytest.approx(result['eval_accuracy'])
  assert [row['images'] for row in result['classes']] == [
    int(row['images']) for row in rows
  ]
  calibration = result['calibration']
  error = calibration['expected_calibration_error']
  assert f'calibration error {100 * error:.2f} %' in done.stdout
  assert sum(row['images'] for row in calibration['bins']) == 355
  right = sum(
    row['images'] * row['accuracy']
    for row in calibration['bins']
    if row['images']
  )
  assert right / 355 == pytest.approx(result['eval_accuracy'])
  for name in ('confusion.png', 'calibration.png', 'most_wrong.png'):
    with Image.open(tmp_path / 'a/b' / name) as picture:
      assert min(picture.size) > 400


def test_positional_argument_is_refused_in_one_line(tmp_path):
  done = run_tool('--source=a', 'cifar10', f'--output={tmp_path / "out"}')
  assert (done.returncode, done.stdout) == (1, '')
  (line,) = done.stderr.splitlines()
  assert (
    line
    == "error: 'cifar10' is not a flag; --source=SOURCE names the network, "
    '--dataset=NAME the data set'
  )
  assert not list(tmp_path.iterdir())
