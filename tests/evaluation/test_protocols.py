"""ImageNet's other test sets, each by its rules, against NumPy."""

import functools
import io
import warnings

import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image
from trained_models import trained_model

from convmixer_jax.data.class_names import imagenet_synsets
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import protocols
from convmixer_jax.evaluation.per_image import evaluate_per_image
from convmixer_jax.models import ConvMixer

N, K, SIZE = 23, 1000, 6


def make_set(name, data_dir, split, examples):
  """Prepares a TFDS set with the features of TFDS's builder of this name."""
  import tensorflow_datasets as tfds

  name, _, config = name.partition('/')

  class Tiny(tfds.builder_cls(name), skip_registration=True):
    def _split_generators(self, dl_manager):
      return {split: self._generate_examples()}

    def _generate_examples(self):
      yield from enumerate(examples)

  Tiny.name = name
  kwargs = {'config': config} if config else {}
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # TensorFlow's own, in preparing
    Tiny(
      data_dir=data_dir, file_format='array_record', **kwargs
    ).download_and_prepare()


@pytest.fixture(scope='module')
def network():
  model = ConvMixer(width=8, depth=1, patch_size=2, kernel_size=3)
  init = jax.jit(functools.partial(model.init, train=False))
  variables = init(jax.random.key(0), np.zeros((1, SIZE, SIZE, 3)))
  # Logits far apart: no ties, and losses that differ.
  head = jax.tree.map(lambda p: 30 * p, variables['params']['head'])
  return model, {**variables, 'params': {**variables['params'], 'head': head}}


@pytest.fixture(scope='module')
def images():
  rng = np.random.default_rng(0)
  colors = rng.integers(0, 256, (N, 1, 1, 3))
  noise = rng.integers(-99, 100, (N, SIZE, SIZE, 3))
  return np.clip(colors + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def logits(network, images):
  model, variables = network
  pixels = (images / 255 - 0.5) / 0.25
  apply = jax.jit(functools.partial(model.apply, train=False))
  return np.asarray(apply(variables, pixels), np.float64)


@pytest.fixture
def config(tmp_path):
  return ml_collections.ConfigDict(
    {
      'batch_size': 8,  # does not divide the set
      'dataset': {
        'data_dir': str(tmp_path),
        'image_size': SIZE,
        'mean': (0.5, 0.5, 0.5),
        'std': (0.25, 0.25, 0.25),
        'cache_mib': 1024,
      },
      'augment': {
        'eval_crop_fraction': 1.0,
        'eval_interpolation': 'bicubic',
      },
      'input': {'num_threads': 2, 'num_workers': 0, 'prefetch': 2},
      'mesh': {'data': -1, 'fsdp': 1},
    }
  )


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'png')
  return io.BytesIO(file.getvalue())


def evaluate(network, config, name, split):
  """Returns the results, and which of `images` they are of, in their order."""
  model, variables = network
  config.dataset.name = name
  source, classes = protocols.open_test_set(
    config.dataset, split, imagenet_synsets(), model.num_classes
  )
  trained = trained_model(model, variables)
  results = evaluate_per_image(trained, source, config, classes)
  return classes, results, [source[i]['image'] for i in results.number]


def find(shown, images):
  places = {image.tobytes(): place for place, image in enumerate(images)}
  return [places[image.tobytes()] for image in shown]


def expected(logits, right):
  """What the definitions give; `right` `[N, K]` says which labels are."""
  order = np.argsort(-logits, axis=-1)
  hits = np.take_along_axis(right, order, axis=-1)
  shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  return {
    'eval_loss': np.mean(-np.log((shares * right).sum(-1))),
    'eval_accuracy': np.mean(hits[:, 0]),
    'eval_accuracy_top5': np.mean(hits[:, :5].any(-1)),
  }


def one_hot(labels, num_classes):
  return np.arange(num_classes) == np.asarray(labels)[:, None]


def labels_by_rank(logits, candidates):
  """Returns for each image the best, second or ninth of some classes."""
  ranked = candidates[np.argsort(-logits[:, candidates], axis=-1)]
  return ranked[np.arange(N), np.array([0, 1, 0, 8])[np.arange(N) % 4]]


@pytest.mark.parametrize('name', ['imagenet_v2/topimages', 'imagenet_sketch'])
def test_metrics_over_all_classes_equal_numpy(
  name, network, images, logits, config, tmp_path
):
  labels = labels_by_rank(logits, np.arange(K))
  make_set(
    name,
    tmp_path,
    'test',
    [
      {'image': png(image), 'label': int(label), 'file_name': ''}
      for image, label in zip(images, labels, strict=True)
    ],
  )
  assert protocols.default_split(name, str(tmp_path)) == 'test'
  classes, results, shown = evaluate(network, config, name, 'test')
  assert sorted(find(shown, images)) == list(range(N))
  assert results.metrics() == pytest.approx(
    expected(logits, one_hot(labels, K)), rel=1e-5
  )
  assert 0.4 < results.metrics()['eval_accuracy'] < 0.6
  assert classes.names == imagenet_synsets()


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r'])
def test_metrics_over_the_classes_of_the_whole_set_equal_numpy(
  name, network, images, logits, config, tmp_path
):
  labels = labels_by_rank(logits, np.arange(7, K, 20))
  make_set(
    name,
    tmp_path,
    'test',
    [
      {'image': png(image), 'label': int(label), 'file_name': ''}
      for image, label in zip(images, labels, strict=True)
    ],
  )
  present = np.unique(labels)
  classes, results, shown = evaluate(network, config, name, 'test[:50%]')
  places = find(shown, images)
  assert len(set(labels[places])) < len(present)  # the slice lacks some
  np.testing.assert_array_equal(classes.outputs, present)
  right = one_hot(labels, K)[np.ix_(places, present)]
  assert results.metrics() == pytest.approx(
    expected(logits[np.ix_(places, present)], right), rel=1e-5
  )
  np.testing.assert_array_equal(present[results.label], labels[places])
  assert classes.names == tuple(imagenet_synsets()[k] for k in present)


def test_prediction_of_any_of_several_labels_is_correct(
  network, images, logits, config, tmp_path
):
  order = np.argsort(-logits, axis=-1)
  ranks = [(), (0,), (1, 3), (0, 700), (4, 20), (5,), (900, 2, 600)]
  labels = [order[i, list(ranks[i % len(ranks)])].tolist() for i in range(N)]
  make_set(
    'imagenet2012_real',
    tmp_path,
    'validation',
    [
      {
        'image': png(image),
        'original_label': 0,
        'real_label': real,
        'file_name': '',
      }
      for image, real in zip(images, labels, strict=True)
    ],
  )
  _, results, shown = evaluate(
    network, config, 'imagenet2012_real', 'validation'
  )
  places = find(shown, images)
  assert sorted(places) == [i for i in range(N) if i % len(ranks)]
  right = np.zeros((N, K), bool)
  for i, several in enumerate(labels):
    right[i, several] = True
  assert results.metrics() == pytest.approx(
    expected(logits[places], right[places]), rel=1e-5
  )
  for place, label, best in zip(
    places, results.label, results.best, strict=True
  ):
    assert label == (best[0] if 0 in ranks[place % 7] else min(labels[place]))
  label, predicted, count = results.confusion().T
  assert count[label == predicted].sum() == results.correct.sum()


def test_default_split_is_the_held_out_one(monkeypatch):
  class Builder:
    class info:
      splits: tuple[str, ...] = ()

  monkeypatch.setattr(protocols, 'prepared_builder', lambda *_: Builder)
  for splits, chosen in (
    (('test', 'train', 'validation'), 'validation'),
    (('train', 'test'), 'test'),
    (('train',), 'train'),
  ):
    Builder.info.splits = splits
    assert protocols.default_split('x', '') == chosen
  Builder.info.splits = ('train', 'extra')
  with pytest.raises(UserError, match='has the splits train, extra; name'):
    protocols.default_split('x', '')
