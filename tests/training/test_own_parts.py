"""Sources, networks, augmentation and optimizers that are given as objects."""

import threading

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from run_files import assert_identical, read_rows, read_state

import convmixer_jax
from convmixer_jax.data import own_source, own_transform, pipeline
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer, own_modules
from convmixer_jax.models.from_object import config_of_object
from convmixer_jax.training import loop, own_optimizer
from convmixer_jax.training.own_parts import OwnParts

CLASSES = ['dark', 'light']


class Squares:
  """Images that are dark or light, so that a few steps tell them apart."""

  class_names = CLASSES

  def __init__(self, size, image=None, label=None, seed=0):
    self._size, self._image, self._label = size, image, label
    self._seed = seed

  def __len__(self):
    return self._size

  def __getitem__(self, index):
    rng = np.random.default_rng([self._seed, index])
    label = index % 2
    image = rng.integers(0, 128, (8, 8, 3)) + 127 * label
    return {
      'image': image.astype(np.uint8) if self._image is None else self._image,
      'label': label if self._label is None else self._label,
    }


class Net(nn.Module):
  """A small network whose last layer is not called head."""

  num_classes: int
  width: int = 4
  activation: object = nn.relu

  @nn.compact
  def __call__(self, images, *, train):
    del train
    x = self.activation(nn.Conv(self.width, (3, 3))(images))
    return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))


def flip(image, rng):
  return image[:, ::-1] if rng.random() < 0.5 else image


@pytest.fixture
def config(config):
  config.batch_size, config.num_steps = 16, 6
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.augment.rand_augment.num_ops = 0
  config.checkpoint_every_steps, config.log_every_steps = 4, 2
  return config


def wrap(source, config, argument='train_source'):
  return own_source.OwnSource(source, argument, 'train', config.dataset)


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


@pytest.mark.parametrize(
  ('image', 'label', 'message'),
  [
    (np.zeros((8, 8, 3)), 0, 'is float64; give uint8, uint16 or float32'),
    (np.zeros((8, 8), np.uint8), 0, r'has shape \[8, 8\]; give \[H, W, 3\]'),
    (np.zeros((0, 8, 3), np.uint8), 0, 'without a pixel'),
    (np.full((8, 8, 3), np.nan, np.float32), 0, 'are not finite'),
    (None, 2, r'label of train_source\[0\] is 2, not from 0 to 1'),
    (None, -1, r'is -1, not from 0 to 1'),
    (None, 'dark', "is 'dark', not a whole number from 0 to 1"),
    (None, 0.5, 'is 0.5, not a whole number'),
  ],
)
def test_wrong_example_is_refused(config, image, label, message):
  with pytest.raises(UserError, match=message):
    wrap(Squares(4, image, label), config)


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

  for source, message in (
    ([1, 2], r'train_source\.class_names is None'),
    (7, 'is a int without __len__'),
    (Random(4), 'another example when it is read again'),
    (Broken(4), r"train_source\[0\] fails \(KeyError: 'image'\)"),
    (Named(4), "class_names has 'a' twice"),
    (Numbered(4), 'class_names has 0, not a string'),
  ):
    with pytest.raises(UserError, match=message):
      wrap(source, config)


def test_sources_with_other_classes_are_refused(config):
  class Others(Squares):
    class_names = 'light', 'dark'

  with pytest.raises(UserError, match="class 0 is 'dark' and 'light'"):
    OwnParts(Squares(4), Others(4)).open_sources(config)


def test_several_labels_are_given_as_zeros_and_ones(config):
  config.dataset.multi_label = True
  source = wrap(Squares(4, label=np.array([0, 1])), config)
  np.testing.assert_array_equal(source[0]['label'], [0, 1])
  assert source.stored_example(0)[1] == [1]
  with pytest.raises(UserError, match='not 0 or 1 for each of 2 classes'):
    wrap(Squares(4, label=np.array([0, 2])), config)


def test_batches_have_the_images_that_the_transform_returns(config):
  source = wrap(Squares(32), config)

  def number(image, rng):
    return np.full_like(image, rng.integers(256))

  def read(first_step, count):
    batches = pipeline.train_batches(
      source, config, first_step=first_step, transform=number
    )
    values = [next(batches)['image'][:, 0, 0, 0] for _ in range(count)]
    batches.close()
    return values

  all_of_them = read(0, 4)
  assert len(np.unique(all_of_them)) > 20
  np.testing.assert_array_equal(read(2, 2), all_of_them[2:])


@pytest.mark.slow
def test_worker_processes_get_copies_of_source_and_transform(config, capfd):
  def batch(source, transform):
    batches = pipeline.train_batches(source, config, transform=transform)
    images = next(batches)['image']
    batches.close()
    return images

  source = wrap(Squares(32), config)
  expected = batch(source, flip)
  config.input.num_workers = 1
  np.testing.assert_array_equal(
    batch(source, lambda image, rng: flip(image, rng)), expected
  )


def test_what_cannot_be_copied_to_worker_processes_says_so(config):
  source = Squares(4)
  source.lock = threading.Lock()
  message = own_source.find_copy_obstacle(wrap(source, config), 'train_source')
  assert message.startswith('train_source cannot be copied to worker processes')
  assert own_source.find_copy_obstacle(wrap(Squares(4), config), 'x') is None
  assert pipeline.default_num_workers(wrap(Squares(4), config), 8) == 0


def test_transform_of_uint16_images_may_return_either_dtype():
  image = np.full((4, 4, 1), 65535, np.uint16)
  shape, rng = (4, 4, 1), np.random.default_rng(0)
  for function in (lambda x, _: x, lambda x, _: x.astype(np.float32) / 65535):
    result = own_transform.apply(function, image, rng, shape)
    assert result.dtype == np.float32 and (result == 1).all()


def test_network_is_named_by_its_class_and_attributes():
  def name(net):
    return own_modules.register(net, (8, 8, 3))

  assert name(Net(2)) == ('object:Net(num_classes=2, width=4, activation=relu)')
  assert own_modules.find(name(Net(2))).head == 'Dense_0'
  assert name(convmixer_jax.named(Net(2), 'mine')) == 'object:mine'
  with pytest.raises(UserError, match="'activation' whose value cannot be rec"):
    name(Net(2, activation=lambda x: x))


def test_network_of_the_package_becomes_its_name_and_fields():
  net = ConvMixer(width=8, depth=1, patch_size=2, kernel_size=3, num_classes=2)
  model = config_of_object(net, 'float32', (8, 8, 3))
  assert model.name == 'convmixer' and model.width == 8
  with pytest.raises(UserError, match=r"dtype float32, and config\.dtype = 'b"):
    config_of_object(net, 'bfloat16', (8, 8, 3))


def test_wrong_networks_are_refused():
  class WithoutClasses(nn.Module):
    def __call__(self, images, *, train):
      return images

  class WithoutTrain(nn.Module):
    num_classes: int = 2

    def __call__(self, images):
      return images

  class Failing(Net):
    def __call__(self, images, *, train):
      raise ValueError('of 7')

  for net, message in (
    (WithoutClasses(), 'has no attribute num_classes'),
    (WithoutTrain(), 'has no argument train'),
    (Failing(2), r'fails in init with images of shape .*ValueError: of 7'),
  ):
    with pytest.raises(UserError, match=message):
      own_modules.register(net, (8, 8, 3))


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
