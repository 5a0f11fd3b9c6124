"""Images on the devices: the batches of the host, bit for bit."""

import itertools

import jax
import jobs
import ml_collections
import numpy as np
import pytest
from cut_off import train_until
from run_files import assert_identical, read_rows, read_state

from convmixer_jax.config import default_config, validate
from convmixer_jax.data import pipeline
from convmixer_jax.data.augment import rand_augment as host_rand_augment
from convmixer_jax.data.augment.policies import POLICIES, Draw
from convmixer_jax.data.augment.resize import resize
from convmixer_jax.data.examples import InMemorySource
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.own_names import named
from convmixer_jax.training import loop
from convmixer_jax.training.on_device import crop, rand_augment, store
from convmixer_jax.training.on_device.batches import DeviceImages

NAMES = tuple(POLICIES['torchvision'].operations)
TORCHVISION = {
  'rand_augment.num_ops': 2,
  'rand_augment.policy': 'torchvision',
  'rand_augment.magnitude': 12.0,
  'rand_augment.magnitude_std': 0.0,
}


def random_images(count, shape, dtype=np.uint8):
  """Of noise, of few values, of one value, and a ramp."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, *shape)).astype(dtype)
  images[1] = images[1] // 200 * 37
  images[2] = 131
  images[3] = np.linspace(90, 140, images[3].size).reshape(shape)
  return images


def source_of(images, labels=None):
  labels = range(len(images)) if labels is None else labels
  return InMemorySource(
    [
      {'image': image, 'label': label}
      for image, label in zip(images, labels, strict=True)
    ],
    class_names=[str(number) for number in range(10)],
  )


@pytest.fixture
def config(config):
  config.batch_size = 8
  config.dataset.image_size = 12
  config.augment.update_from_flattened_dict(TORCHVISION)
  config.input.on_device = True
  return config


@pytest.fixture
def mesh(config):
  return sharding.create_mesh(config.mesh)


@pytest.mark.parametrize(
  ('magnitude', 'shape'),
  [(12.0, (32, 32, 3)), (30.0, (9, 14, 3)), (0.0, (2, 1, 3))],
)
def test_each_operation_is_that_of_the_host(magnitude, shape):
  config = default_config(ml_collections.ConfigDict()).augment.rand_augment
  config.policy, config.magnitude = 'torchvision', magnitude
  images = random_images(6, shape)
  tables = rand_augment.make_tables(config, *shape[:2])
  apply = jax.jit(rand_augment.rand_augment)
  for number, name in enumerate(NAMES):
    for negate in (False, True):
      draw = Draw(name, magnitude, negate, 'nearest')
      expected = [
        host_rand_augment.apply_operation(
          image, draw, True, config.fill, 'torchvision'
        )
        for image in images
      ]
      found = apply(
        images,
        np.full((6, 1), number, np.int32),
        np.full((6, 1), negate),
        tables,
      )
      np.testing.assert_array_equal(found, expected, err_msg=f'{name} {negate}')
  none = np.full((6, 2), -1, np.int32)
  unchanged = apply(images, none, np.zeros((6, 2), bool), tables)
  np.testing.assert_array_equal(unchanged, images)


@pytest.mark.parametrize('size', [(12, 12), (7, 30)])
def test_crops_of_all_sizes_are_resized_as_on_the_host(size):
  height, width = 13, 17
  boxes = [
    (top, left, rows, columns)
    for top, rows in ((0, 13), (3, 1), (12, 1), (2, 7), (1, 12))
    for left, columns in ((0, 17), (16, 1), (4, 12), (5, 7))
  ]
  images = random_images(len(boxes), (height, width, 3))
  tables = [
    crop.make_matrices(range(1, length + 1), length, side)
    for length, side in zip((height, width), size, strict=True)
  ]
  lengths = [range(1, height + 1), range(1, width + 1)]
  num_bytes = crop.matrix_bytes(lengths, (height, width), size)
  assert num_bytes == sum(table.weights.nbytes for table in tables)
  resized = jax.jit(crop.crop_and_resize)
  for cubic, resample in enumerate(('bilinear', 'bicubic')):
    found = resized(
      images,
      np.array(boxes, np.int32),
      np.full(len(boxes), bool(cubic)),
      *tables,
    )
    for image, box, ours in zip(images, boxes, found, strict=True):
      top, left, rows, columns = box
      part = image[top : top + rows, left : left + columns]
      expected = resize(part, *size, resample)
      np.testing.assert_array_equal(ours, expected, err_msg=f'{box} {resample}')


def assert_batches_of_the_host(config, mesh, train, evaluated, first_step=3):
  images = DeviceImages(train, evaluated, config, mesh)
  ours = images.train_batches(first_step)
  theirs = pipeline.train_batches(train, config, first_step=first_step)
  for found, expected in itertools.islice(zip(ours, theirs, strict=False), 6):
    expected_sharding = sharding.batch_sharding(mesh)
    assert found['image'].sharding.is_equivalent_to(expected_sharding, 4)
    assert found.keys() == expected.keys()
    for name in expected:
      assert found[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(found[name], expected[name])
  theirs.close()
  ours = list(images.eval_batches())
  theirs = list(pipeline.eval_batches(evaluated, config))
  for found, expected in zip(ours, theirs, strict=True):
    assert found.keys() == expected.keys()
    for name in expected:
      assert found[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'augment.crop': 'none', 'dataset.image_size': (16, 20)},
    {
      'augment.crop': 'none',
      'augment.interpolation': 'bicubic',
      'augment.flip': 0.0,
    },
    {'augment.rand_augment.num_ops': 0, 'augment.interpolation': 'bilinear'},
    {'repeated_augmentation': 3, 'augment.rand_augment.probability': 0.5},
    {'augment.eval_image_size': 10, 'augment.eval_crop_fraction': 0.9},
  ],
)
def test_batches_are_those_of_the_host(config, mesh, changes):
  config.update_from_flattened_dict(changes)
  images = random_images(37, (16, 20, 3))
  evaluated = random_images(13, (18, 15, 3))
  labels = np.arange(37) % 10
  assert_batches_of_the_host(
    config, mesh, source_of(images, labels), source_of(evaluated)
  )


def test_several_labels_and_other_channels_are_those_of_the_host(config, mesh):
  config.augment.rand_augment.num_ops = 0
  config.dataset.mean, config.dataset.std = (0.5,) * 5, (0.2,) * 5
  images = random_images(20, (16, 20, 5))
  labels = np.random.default_rng(1).integers(0, 2, (20, 10))
  source = source_of(images, labels)
  assert_batches_of_the_host(config, mesh, source, source)


def test_images_of_several_sizes_are_kept_where_all_are_resized(config, mesh):
  config.augment.crop, config.augment.interpolation = 'none', 'bilinear'
  images = [random_images(4, (10 + n, 12, 3))[0] for n in range(9)]
  source = source_of(images)
  assert_batches_of_the_host(config, mesh, source, source)
  config.augment.crop = 'random_resized'
  with pytest.raises(UserError, match='0 and 1 of the source are 10 x 12 and'):
    DeviceImages(source, source, config, mesh)


def test_what_the_devices_cannot_do_is_refused(config, mesh, monkeypatch):
  config.augment.rand_augment.magnitude_std = 0.5
  with pytest.raises(UserError, match=r'magnitude_std = 0\.5; set it to 0'):
    validate(config)
  config.augment.rand_augment.policy = 'timm'
  with pytest.raises(UserError, match="policy = 'timm'; set it to 'torchvisio"):
    validate(config)
  config.augment.rand_augment.num_ops = 0
  validate(config)
  floats = source_of(random_images(9, (12, 12, 3), np.float32))
  with pytest.raises(UserError, match='those of the source are float32; give'):
    DeviceImages(floats, floats, config, mesh)
  source = source_of(random_images(9, (16, 20, 3)))
  monkeypatch.setattr(store, 'memory_limit', lambda mesh: 2.0**13)
  with pytest.raises(UserError, match='9 training images of 16 x 20 x 3 and 9'):
    DeviceImages(source, source, config, mesh)


def test_train_transform_of_the_user_is_refused(config, tmp_path):
  config.dataset.image_size = 8
  with pytest.raises(UserError, match='train_transform is a function that'):
    loop.train_and_evaluate(
      config,
      str(tmp_path / 'run'),
      train_transform=named(lambda image, rng: image, 'same'),
    )
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_run_and_its_resumption_have_the_bits_of_the_host(
  config, tmp_path, monkeypatch
):
  host, pieces = str(tmp_path / 'host'), str(tmp_path / 'pieces')
  config.batch_size, config.dataset.image_size = 64, 8
  config.num_steps, config.checkpoint_every_steps = 24, 7  # an epoch is 22
  train_until(9, monkeypatch, config, pieces)
  results = loop.train_and_evaluate(config, pieces)
  config.input.on_device = False
  assert loop.train_and_evaluate(config, host) == results
  assert_identical(read_state(pieces, 24), read_state(host, 24))
  assert read_rows(pieces) == read_rows(host)


@pytest.mark.slow
def test_processes_of_several_devices_have_the_bits_of_the_host(tmp_path):
  flags = [
    '--config=configs/digits.py',
    '--config.num_steps=3',
    '--config.batch_size=16',
    '--config.model.width=8',
    '--config.model.depth=1',
    '--config.model.kernel_size=3',
    '--config.mesh.fsdp=2',
  ]
  states = []
  for on_device in (True, False):
    job = jobs.Job(
      tmp_path / str(on_device),
      [*flags, f'--config.input.on_device={on_device}'],
      num_processes=2,
      num_devices=2,
    )
    job.finish()
    assert ('on each device, 0 MiB' in job.output()) == on_device
    states.append(read_state(tmp_path / str(on_device), 3))
  assert_identical(*states)
