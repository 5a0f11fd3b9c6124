"""ResNet equals timm's, in evaluation and in training; mistakes show.

Regenerate the fixture with fixtures/make_resnet_fixtures.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from convmixer_jax import models
from convmixer_jax.analysis import flops
from convmixer_jax.errors import UserError
from convmixer_jax.models import batch_norm
from convmixer_jax.models import features as features_lib
from convmixer_jax.models.layer_numbers import number_layers
from convmixer_jax.models.resnet import module as resnet
from convmixer_jax.pretrained import torch_files
from convmixer_jax.pretrained.load import load

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'resnet.npz'
TOLERANCE = 5e-6
SIZES = [pytest.param('64x64', marks=pytest.mark.slow), '65x79']
FIELDS = {'depths': (2, 1, 3, 2), 'widths': (8, 12, 16, 24), 'num_classes': 10}
STATE_DICT = models.MODELS['resnet'].state_dict


@functools.cache
def arrays_of(part):
  with np.load(FIXTURE) as file:
    return {
      name.removeprefix(f'{part}/'): file[name]
      for name in file
      if name.startswith(f'{part}/')
    }


def weights():
  return {
    name: array.astype(np.float32) if array.ndim else array
    for name, array in arrays_of('weights').items()
  }


def images_of(part):
  return (arrays_of(part)['pixels'] / 64 - 2).astype(np.float32)


@functools.cache
def read():
  """Returns the fields of the fixture's network, and its variables."""
  fields, named = STATE_DICT.infer_fields(weights(), 'fixture')
  return fields, STATE_DICT.from_timm(named)


def create(**changes):
  """Returns the model of the fixture, and its variables."""
  fields, variables = read()
  return resnet.ResNet(**(fields | changes)), variables


def evaluate(size, **changes):
  model, variables = create(**changes)
  return jax.jit(functools.partial(features_lib.apply_with_features, model))(
    variables, images_of(size)
  )


def error(size):
  """Returns the largest difference from timm's logits and features.

  Relative to their standard deviation.
  """
  found, expected = evaluate(size), arrays_of(size)
  ours = {
    'logits': found.logits,
    'features': found.head_input,
    'grid': found.grid,
  }
  return max(
    np.abs(array - expected[name]).max() / np.std(expected[name])
    for name, array in ours.items()
  )


def train(**changes):
  """Returns logits, statistics after it and gradients, in training mode."""
  model, variables = create(**changes)
  images = images_of('train')

  @jax.jit
  def compute(variables):
    def loss(params):
      logits, updated = model.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      own = jax.nn.log_softmax(logits)[jnp.arange(8), jnp.arange(8)]
      return -own.mean(), (logits, updated)

    return jax.grad(loss, has_aux=True)(variables['params'])

  gradients, (logits, updated) = compute(variables)
  to_timm = STATE_DICT.to_timm
  return (
    logits,
    to_timm({**variables, **updated}),
    to_timm({**variables, 'params': gradients}),
  )


@pytest.mark.parametrize('size', SIZES)
def test_logits_and_features_equal_timm(size):
  assert error(size) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize('changes', [{}, {'scan': True, 'remat': True}])
def test_training_mode_equals_timm(changes):
  logits, after, gradients = train(**changes)
  expected = arrays_of('train')['logits']
  np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-6)
  assert arrays_of('after')
  for name, array in arrays_of('after').items():
    np.testing.assert_allclose(after[name], array, rtol=1e-5, atol=1e-6)
  assert arrays_of('gradients')
  for name, array in arrays_of('gradients').items():
    np.testing.assert_allclose(
      gradients[name],
      array,
      rtol=0,
      atol=2e-4 * np.abs(array).max(),
      err_msg=name,
    )


# Each mistake that is easily made shows in the fixture.


@pytest.mark.slow
def test_reference_detects_padding_of_xla(monkeypatch):
  def convolve(x, kernel, stride=1, backend=None):
    del backend
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), 'SAME', dimension_numbers=dimensions
    )

  monkeypatch.setattr(resnet, 'convolve', convolve)
  assert error('64x64') > 1e-2


@pytest.mark.slow
def test_reference_detects_padding_of_xla_in_the_pool(monkeypatch):
  def pool(x, backend):
    del backend
    return resnet.nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')

  monkeypatch.setattr(resnet.kernels, 'max_pool', pool)
  assert error('64x64') > 1e-2


@pytest.mark.slow
def test_reference_detects_a_stride_on_the_first_convolution(monkeypatch):
  right = resnet.Conv

  def conv(features, size, stride=1, backend=None, name=None):
    if features == FIELDS['widths'][1]:  # that stage has no other blocks
      stride = {'conv1': 2, 'conv2': 1}[name]
    return right(features, size, stride, backend, name=name)

  monkeypatch.setattr(resnet, 'Conv', conv)
  assert error('64x64') > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize('epsilon', [1e-3, 1e-6])
def test_reference_detects_another_epsilon(monkeypatch, epsilon):
  monkeypatch.setattr(batch_norm, 'EPSILON', epsilon)
  assert error('64x64') > 1e-3


@pytest.mark.slow
def test_reference_detects_the_biased_variance(monkeypatch):
  update, many = batch_norm._update, 1e30
  monkeypatch.setattr(
    batch_norm, '_update', lambda *arguments: update(*arguments[:-1], many)
  )
  _, after, _ = train()
  assert 1e-4 < max(
    np.abs(after[name] - array).max()
    for name, array in arrays_of('after').items()
  )


def test_fields_are_inferred_and_weights_return_bit_for_bit():
  model, variables = create()
  assert {key: getattr(model, key) for key in FIELDS} == FIELDS
  tensors, expected = STATE_DICT.to_timm(variables), weights()
  assert tensors.keys() == expected.keys()
  for name, array in expected.items():
    if name.endswith('num_batches_tracked'):
      assert tensors[name] == 0 and tensors[name].dtype == array.dtype
    else:
      np.testing.assert_array_equal(tensors[name], array)


def test_weights_of_wrappers_and_without_counters_are_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  tensors = {
    f'module.{name}': array
    for name, array in weights().items()
    if not name.endswith('num_batches_tracked')
  }
  safetensors.numpy.save_file(tensors, path)
  loaded = load(path)
  assert (loaded.network, loaded.num_classes) == ('resnet', 10)
  jax.tree.map(np.testing.assert_array_equal, loaded.variables, create()[1])


def test_files_of_torchvision_are_read_with_their_counters():
  path = FIXTURE.with_suffix('.pth')
  assert b'layer1.1.bn3.num_batches_tracked' in path.read_bytes()
  loaded = load(path)
  assert (loaded.network, loaded.channels) == ('resnet', 1)
  assert loaded.fields == {'depths': (2, 1, 1, 1), 'widths': (1, 1, 1, 1)}
  tensors = torch_files.read_state_dict(str(path))
  back = STATE_DICT.to_timm(loaded.variables, 1)
  assert back.keys() == tensors.keys()
  for name, array in tensors.items():
    if name.endswith('num_batches_tracked'):
      assert array == 1
    else:
      np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    pytest.param(
      lambda tensors: tensors.pop('layer3.2.bn2.bias'),
      r'not a ResNet of bottleneck blocks .* missing: layer3.2.bn2.bias;',
      marks=pytest.mark.slow,
    ),
    (
      # As a network of other blocks, of two convolutions, has it.
      lambda tensors: [
        tensors.pop(name) for name in list(tensors) if 'conv3' in name
      ],
      r'missing: layer1.0.conv3.weight, ',
    ),
    pytest.param(
      lambda tensors: tensors.update({'layer1.1.se.fc1.bias': np.ones(2)}),
      r'surplus: layer1.1.se.fc1.bias;',
      marks=pytest.mark.slow,
    ),
    (
      lambda tensors: tensors.update({'layer1.0.conv2.weight': np.ones(0)}),
      r'misshapen: layer1.0.conv2.weight \(0,\) instead of \(8, 8, 3, 3\)',
    ),
  ],
)
def test_tensors_of_other_networks_are_refused(change, message):
  tensors = weights()
  change(tensors)
  with pytest.raises(UserError, match=message) as refusal:
    STATE_DICT.infer_fields(tensors, 'FILE')
  assert '\n' not in str(refusal.value)


@pytest.mark.parametrize(
  ('name', 'parameters', 'gmacs'),
  [
    pytest.param('resnet50', 25_557_032, 4.089, marks=pytest.mark.slow),
    pytest.param('resnet101', 44_549_160, 7.801, marks=pytest.mark.slow),
    ('resnet152', 60_192_808, 11.514),
  ],
)
def test_published_sizes(name, parameters, gmacs):
  config = models.model_config(**models.VARIANTS[name])
  model = models.create_model(config, 1000)
  assert models.describe(model) == name.replace('resnet', 'ResNet-')
  assert flops.count_parameters(model, 224) == parameters
  macs = flops.count_forward(model, 224)
  assert (round(macs.matrix / 1e9, 3), macs.depthwise) == (gmacs, 0)


@pytest.mark.slow
def test_published_operations_at_the_test_size():
  config = models.model_config(**models.VARIANTS['resnet152'])
  macs = flops.count_forward(models.create_model(config, 1000), 288)
  assert round(macs.matrix / 1e9, 3) == 19.031


@pytest.mark.parametrize(
  ('size', 'grid'),
  [
    ((160, 161), (5, 6)),
    pytest.param((224, 224), (7, 7), marks=pytest.mark.slow),
    pytest.param((288, 32), (9, 1), marks=pytest.mark.slow),
  ],
)
def test_last_grid_has_the_size_of_timm(size, grid):
  model, variables = create()
  shapes = jax.eval_shape(
    functools.partial(features_lib.apply_with_features, model),
    variables,
    jax.ShapeDtypeStruct((1, *size, 3), jnp.float32),
  )
  assert shapes.grid.shape == (1, *grid, 96)


@pytest.mark.slow
def test_initialisation_is_as_published():
  config = models.model_config('resnet', widths=(32,) * 4)
  model = models.create_model(config, 200)
  params = jax.jit(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )()['params']

  def check(name, deviation):
    leaf = functools.reduce(
      lambda tree, key: tree[key], name.split('/'), params
    )
    np.testing.assert_allclose(np.std(leaf), deviation, rtol=0.1, err_msg=name)

  check('conv1/kernel', (2 / (7 * 7 * 64)) ** 0.5)
  for block in ('stage1_block1', 'stage4_blocks'):
    check(f'{block}/conv1/kernel', (2 / 32) ** 0.5)
    check(f'{block}/conv2/kernel', (2 / (3 * 3 * 32)) ** 0.5)
    check(f'{block}/conv3/kernel', (2 / 128) ** 0.5)
    check(f'{block}/bn3/scale', 0)
    np.testing.assert_array_equal(params[block]['bn2']['scale'], 1)
  check('stage2_block1/downsample/kernel', (2 / 128) ** 0.5)
  np.testing.assert_array_equal(
    params['stage2_block1']['downsample_bn']['scale'], 1
  )
  for part in ('kernel', 'bias'):
    check(f'head/{part}', (128 * 3) ** -0.5)


def test_drop_path_is_linear_over_the_blocks_of_all_stages():
  model, _ = create(drop_path=0.7)
  rates = list(model._drop_path_rates())
  assert [len(stage) for stage in rates] == list(FIELDS['depths'])
  np.testing.assert_allclose(np.concatenate(rates), np.arange(8) / 10)


@pytest.mark.slow
def test_dropped_branches_leave_the_shortcut():
  block = resnet.Bottleneck(2, 1, False, True, True, 0, None)
  x = jax.random.normal(jax.random.key(0), (64, 2, 2, 8))
  rng = {'params': jax.random.key(1), 'dropout': jax.random.key(2)}
  variables = jax.jit(block.init)(rng, x, jnp.float32(0.5))
  variables['params']['bn3']['scale'] = jnp.ones(8)

  @jax.jit
  def apply(rate):
    (y, _), _ = block.apply(
      variables, x, rate, rngs=rng, mutable=['batch_stats']
    )
    return y

  whole, dropped = apply(0.0), apply(0.75)
  shortcut = jax.nn.relu(x)
  is_dropped = np.array(
    [np.array_equal(*p) for p in zip(dropped, shortcut, strict=True)]
  )
  assert 32 < is_dropped.sum() < 64
  # What is kept is four times as large, before the last ReLU.
  positive = (whole > 0) & (dropped > 0) & ~is_dropped[:, None, None, None]
  np.testing.assert_allclose(
    (dropped - x)[positive], 4 * (whole - x)[positive], rtol=1e-3, atol=1e-5
  )


def test_layers_are_numbered_as_by_timm():
  _, variables = create()
  numbers = number_layers(models.MODELS['resnet'], variables['params'])
  assert {name: number.tolist() for name, number in numbers.items()} == {
    'conv1': 0,
    'bn1': 0,
    'stage1_block1': 1,
    'stage1_blocks': [2],
    'stage2_block1': 3,
    'stage3_block1': 4,
    'stage3_blocks': [5, 6],
    'stage4_block1': 7,
    'stage4_blocks': [8],
    'head': 9,
  }


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    (
      'depths',
      (2, 0, 3, 2),
      r'depths = \(2, 0, 3, 2\) is not at least 1, each',
    ),
    ('widths', (8, 8), r'widths = \(8, 8\) is not 4 values, each a whole num'),
    ('widths', 8, 'config.model.widths = 8 is not 4 values'),
    ('drop_path', 1.0, 'config.model.drop_path = 1.0 is not at least 0 and be'),
    ('backend', 'shift', "config.model.backend = 'shift' is not one of"),
  ],
)
def test_fields_out_of_range_are_refused(field, value, message):
  with pytest.raises(UserError, match=message):
    create(**{field: value})
