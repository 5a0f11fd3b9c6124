"""Sources, networks, augmentation and optimizers that are given as objects."""

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import own_objects
import pytest
from own_objects import CLASSES, Net, Squares, flip, wrap
from run_files import assert_identical, read_rows, read_state

import convmixer_jax
from convmixer_jax.errors import UserError
from convmixer_jax.models import own_modules
from convmixer_jax.training import loop, own_optimizer
from convmixer_jax.training.own_parts import OwnParts
from convmixer_jax.training.setup import set_up


@pytest.fixture
def config(config):
  return own_objects.short(config)


def all_parts(**changes):
  return {
    'train_source': Squares(40),
    'eval_source': Squares(20, seed=1),
    'model': Net(num_classes=2),
    'train_transform': convmixer_jax.named(flip, 'flip'),
    'optimizer': convmixer_jax.named(
      optax.inject_hyperparams(optax.sgd)(0.5), 'sgd'
    ),
  } | changes


@pytest.mark.slow
def test_run_of_own_parts_trains_resumes_and_loads(
  config, tmp_path, monkeypatch
):
  whole, pieces = str(tmp_path / 'whole'), str(tmp_path / 'pieces')
  results = convmixer_jax.train_and_evaluate(config, whole, **all_parts())
  assert results['eval_accuracy'] > 0.9
  assert read_rows(whole)[-1]['learning_rate'] == 0.5
  assert config.model.name == 'convmixer'  # the caller's stays as it was

  class Stopped(Exception):
    pass

  class Stop(convmixer_jax.Callback):
    def on_step(self, step, metrics):
      if step == 4:
        raise Stopped

  with pytest.raises(Stopped):
    convmixer_jax.train_and_evaluate(
      config, pieces, **all_parts(callbacks=[Stop()])
    )
  again = convmixer_jax.train_and_evaluate(config, pieces, **all_parts())
  assert again == results
  assert_identical(read_state(pieces, 6), read_state(whole, 6))

  monkeypatch.setattr(own_modules, '_known', {})  # as in another process
  run = convmixer_jax.load_run(whole)
  with pytest.raises(UserError, match=r'give it again, by train_and_evaluate'):
    run.load()
  with pytest.raises(UserError, match=r'is of the network Net\(num_classes=2'):
    run.load(model=Net(num_classes=2, width=8))
  trained = run.load(model=Net(num_classes=2))
  images = np.stack([Squares(20, seed=1)[i]['image'] for i in range(20)])
  right = trained.logits(images).argmax(-1) == np.arange(20) % 2
  assert right.mean() == results['eval_accuracy']
  assert trained.class_names == tuple(CLASSES)

  for changes, message in (
    (
      {'train_source': Squares(40, seed=9)},
      'images or labels of train',
    ),
    ({'model': Net(2, width=8)}, 'another config: model.name'),
    ({'train_transform': None}, "with train_transform = 'flip', and none is"),
    (
      {'optimizer': convmixer_jax.named(optax.adam(0.1), 'adam')},
      "with another optimizer: 'sgd' -> 'adam'; give the old one",
    ),
  ):
    with pytest.raises(UserError, match=message) as error:
      loop.train_and_evaluate(config, whole, **all_parts(**changes))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'train_source': Squares(8)}, 'batch_size = 16 is more than the 8'),
    ({'train_source': Squares(0)}, 'train_source is empty'),
    (
      {'model': Net(num_classes=3)},
      'the model has num_classes = 3',
    ),
    ({'model': Net}, 'model is the class Net; give an object of it'),
    ({'model': 'Net'}, r'model is a str, not a flax\.linen\.Module'),
    ({'train_transform': flip}, r'has no name, .*named\(train_transform'),
    ({'optimizer': optax.sgd(0.1)}, r'give convmixer_jax\.named\(optimizer'),
    (
      {'optimizer': convmixer_jax.named('sgd', 'x')},
      'optimizer is a str, not an optax',
    ),
    (
      {
        'train_transform': convmixer_jax.named(
          lambda image, rng: image[1:], 'x'
        )
      },
      r'returns uint8 \[7, 8, 3\] for an image uint8 .*; return uint8 '
      r'\[8, 8, 3\]',
    ),
    (
      {'train_transform': convmixer_jax.named(lambda image: image, 'x')},
      'train_transform fails for an image uint8 .* takes 1 positional',
    ),
  ],
)
def test_wrong_part_is_refused_before_anything_is_written(
  config, tmp_path, changes, message
):
  with pytest.raises(UserError, match=message) as error:
    loop.train_and_evaluate(
      config, str(tmp_path / 'run'), **all_parts(**changes)
    )
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_wrong_sources_are_refused(config):
  class Random(Squares):
    def __getitem__(self, index):
      self._seed += 1
      return super().__getitem__(index)

  class Broken(Squares):
    def __getitem__(self, index):
      return {}['image']

  class Named(Squares):
    class_names = 'a', 'a'

  class Numbered(Squares):
    class_names = 0, 1

  class Method(Squares):
    def class_names(self):
      return CLASSES

  class Endless(Squares):
    def __len__(self):
      return 1.5

  for source, message in (
    ([1, 2], r'train_source\.class_names is None'),
    (7, 'is a int without __len__'),
    (Random(4), 'another example when it is read again'),
    (Broken(4), r"train_source\[0\] fails \(KeyError: 'image'\)"),
    (Named(4), "class_names has 'a' twice"),
    (Numbered(4), 'class_names has 0, not a string'),
    (Method(4), 'class_names is a method; give a list'),
    (Endless(4), r'len\(train_source\) fails \(TypeError'),
  ):
    with pytest.raises(UserError, match=message):
      wrap(source, config)


def test_sources_with_other_classes_are_refused(config):
  class Others(Squares):
    class_names = 'light', 'dark'

  with pytest.raises(UserError, match="class 0 is 'dark' and 'light'"):
    OwnParts(Squares(4), Others(4)).open_sources(config.dataset)


def test_with_one_source_the_other_is_that_of_the_config(config, tmp_path):
  class Digits(Squares):
    class_names = tuple('0123456789')

  frozen = ml_collections.FrozenConfigDict(config)
  found = set_up(frozen, tmp_path / 'run', OwnParts(eval_source=Digits(4)))
  assert (len(found.train_source), len(found.eval_source)) == (1442, 4)
  assert found.config.dataset.name == 'object:Digits'


def test_learning_rate_is_that_of_the_optimizer_if_it_is_known():
  params = {'w': jnp.ones(3)}
  known = optax.inject_hyperparams(optax.adam)(optax.constant_schedule(0.25))
  assert own_optimizer.find_learning_rate(known.init(params)) == 0.25
  unknown = optax.adam(0.25)
  assert jnp.isnan(own_optimizer.find_learning_rate(unknown.init(params)))


def test_optimizer_that_fails_is_refused():
  def update(updates, state, params):
    raise RuntimeError('never')

  wrong = optax.GradientTransformation(lambda params: (), update)
  with pytest.raises(UserError, match=r'optimizer fails .*RuntimeError: ne'):
    own_optimizer.check(wrong, {'w': jnp.ones(3)})


def test_names_are_kept_and_needed():
  assert convmixer_jax.named(flip, 'flip').name == 'flip'
  image = np.zeros((2, 2, 3), np.uint8)
  rng = np.random.default_rng(0)
  assert convmixer_jax.named(flip, 'flip')(image, rng).shape == (2, 2, 3)
  with pytest.raises(UserError, match='is not a string with text'):
    convmixer_jax.named(flip, ' ')


def test_package_lists_and_gives_what_it_exports():
  assert {'train_and_evaluate', 'load', 'load_run', 'named', '__version__'} <= (
    set(dir(convmixer_jax))
  )
  assert convmixer_jax.train_and_evaluate is loop.train_and_evaluate
  assert convmixer_jax.__version__[0].isdigit()
