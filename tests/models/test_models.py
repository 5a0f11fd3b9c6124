"""The network, against timm's with the same weights (fixtures/model.npz)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_fixture import CONVMIXERS

from configs import cifar10, imagenet
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer, create_model
from convmixer_jax.models.convmixer.state_dict import from_timm

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'model.npz'
# With 1,000 classes, as published.
PARAMETERS = {
  '1536_20': 51_625_960,
  '768_32': 21_110_248,
  '1024_20': 24_383_464,
  '1536_20_p14': 52_303_336,
  '1536_20_k3': 49_414_120,
  '768_32_p14_k3': 20_465_896,
  '1024_16': 19_381_224,
  '1024_12_k8': 14_621_672,
  '512_16_k8': 5_357_544,
  '512_12_k8': 4_165_608,
  'vit_b16': 86_567_656,
  'deit_b': 86_567_656,
  'deit_b_distilled': 87_338_192,
  'resmlp_s12': 15_350_872,
  'resmlp_s24': 30_020_680,
  'resmlp_s36': 44_690_488,
  'resmlp_b24_8': 129_138_280,
  'resmlp_b24_16': 115_736_776,
  'mixer_b16': 59_880_472,
  'resnet50': 25_557_032,
  'resnet101': 44_549_160,
  'resnet152': 60_192_808,
  'isotropic_convmixer': 21_110_248,  # that of 768_32, and so on
  'isotropic_vit': 86_567_656,
  'isotropic_resmlp': 15_350_872,
  'isotropic_mixer': 59_880_472,
  # 12 (8 h^2 + 11 h) in the blocks, of h = 384; no layer over the tokens.
  'isotropic_poolformer': 14_887_528,
}


def small_model(**changes):
  fields = {'width': 8, 'depth': 2, 'patch_size': 2, 'kernel_size': 3}
  return ConvMixer(**(fields | {'num_classes': 4} | changes))


def count_parameters(config, num_classes):
  model = create_model(config.model, num_classes, config.dtype)
  size = config.dataset.image_size
  variables = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False
    )
  )
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def init(model, images):
  return jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()


def evaluate(model, variables, images):
  apply = jax.jit(lambda *arguments: model.apply(*arguments, train=False))
  return apply(variables, images)


@pytest.fixture(scope='module', params=CONVMIXERS)
def timm_case(request):
  with np.load(FIXTURE) as file:
    arrays = {
      name.removeprefix(f'{request.param}/'): file[name]
      for name in file
      if name.startswith(request.param)
    }

  def part(name):
    return {
      key.removeprefix(f'{name}/'): array
      for key, array in arrays.items()
      if key.startswith(f'{name}/')
    }

  fields = CONVMIXERS[request.param]
  return {
    'model': ConvMixer(**fields, num_classes=5),
    'images': arrays['images'].transpose(0, 2, 3, 1),
    'labels': arrays['labels'],
    'variables': from_timm(part('weights')),
    'eval_logits': arrays['eval_logits'],
    'train_logits': arrays['train_logits'],
    'gradients': from_timm(part('gradients'))['params'],
    'updated': from_timm(part('updated'))['batch_stats'],
  }


def assert_trees_close(ours, theirs, **tolerance):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs
  )


def test_eval_logits_equal_timm(timm_case):
  logits = evaluate(
    timm_case['model'], timm_case['variables'], timm_case['images']
  )
  np.testing.assert_allclose(
    logits, timm_case['eval_logits'], rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('remat', [False, True])
def test_training_logits_statistics_and_gradients_equal_timm(
  timm_case, scan, remat
):
  model = timm_case['model'].clone(scan=scan, remat=remat)
  batch_stats = timm_case['variables']['batch_stats']

  def loss(params):
    logits, updated = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      timm_case['images'],
      train=True,
      mutable=['batch_stats'],
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, timm_case['labels']
    )
    return losses.mean(), (logits, updated['batch_stats'])

  gradients, (logits, updated) = jax.jit(jax.grad(loss, has_aux=True))(
    timm_case['variables']['params']
  )
  np.testing.assert_allclose(
    logits, timm_case['train_logits'], rtol=1e-4, atol=1e-4
  )
  assert_trees_close(updated, timm_case['updated'], rtol=1e-4, atol=1e-5)
  assert_trees_close(gradients, timm_case['gradients'], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(
  ('remat', 'of_a_block'),
  [(False, 3), (True, 1)],  # input; both convolutions
)
@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_scan_saves_few_activations_per_block_in_bfloat16(
  remat, of_a_block, activation
):
  depth = 5
  model = small_model(
    depth=depth,
    dtype=jnp.bfloat16,
    activation=activation,
    scan=True,
    remat=remat,
  )
  images = jnp.zeros((4, 16, 16, 3))
  variables = jax.eval_shape(lambda: init(model, images))

  def backward(variables):
    def forward(params):
      return model.apply(
        variables | {'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )[0]

    return jax.vjp(forward, variables['params'])[1]

  kept = jax.eval_shape(backward, variables)
  activation_size = 4 * 8 * 8 * 8  # [B, H, W, C]
  of_blocks = [
    array.dtype
    for array in jax.tree.leaves(kept)
    if array.size == depth * activation_size
  ]
  assert of_blocks == [jnp.bfloat16] * of_a_block


@pytest.mark.slow
@pytest.mark.parametrize('variant', imagenet.VARIANTS)
def test_parameter_counts_equal_the_published_ones(variant):
  config = imagenet.get_config(variant)
  assert count_parameters(config, 1000) == PARAMETERS[variant]


def test_parameter_count_on_cifar10():
  assert count_parameters(cifar10.get_config(), 10) == 594_186


@pytest.mark.slow
@pytest.mark.parametrize('size', [(2, 2), (7, 9), (32, 8)])
def test_accepts_any_image_size(size):
  model = small_model(kernel_size=4)
  images = jax.random.normal(jax.random.key(1), (2, *size, 3))
  variables = init(model, images)
  logits = evaluate(model, variables, images)
  whole = images[:, : size[0] // 2 * 2, : size[1] // 2 * 2]
  assert logits.shape == (2, 4)
  np.testing.assert_array_equal(logits, evaluate(model, variables, whole))


@pytest.mark.slow
def test_initialisation_has_pytorchs_distribution():
  model = small_model(width=64, patch_size=4, kernel_size=7)
  params = init(model, jnp.zeros((1, 8, 8, 3)))['params']
  fan_in = {
    'patch_embedding': 4 * 4 * 3,
    'depthwise': 7 * 7,
    'pointwise': 64,
    'head': 64,
  }
  layers = params | params['blocks']
  for name, fan in fan_in.items():
    for values in layers[name].values():
      bound = fan**-0.5
      assert np.abs(values).max() <= bound
      # A uniform variable's standard deviation, within its sampling error.
      expected = bound / np.sqrt(3)
      assert abs(np.std(values) / expected - 1) < 2 / np.sqrt(values.size)
  blocks = params['blocks']['pointwise']['kernel']
  assert not np.array_equal(blocks[0], blocks[1])


@pytest.mark.slow
def test_every_parameter_gets_a_gradient():
  model = small_model()
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  variables = init(model, images)

  def loss(params):
    logits, _ = model.apply(
      variables | {'params': params}, images, train=True, mutable=True
    )
    return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.any(gradient != 0), path


@pytest.mark.slow
def test_bfloat16_stays_close_to_float32():
  images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
  variables = init(small_model(), images)
  exact = evaluate(small_model(), variables, images)
  rounded = evaluate(small_model(dtype=jnp.bfloat16), variables, images)
  assert rounded.dtype == jnp.float32
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
  np.testing.assert_allclose(rounded, exact, atol=0.03)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('width', 0, 'config.model.width = 0 is not at least 1'),
    ('depth', -1, 'config.model.depth = -1 is not'),
    ('patch_size', 0, 'config.model.patch_size = 0 is not'),
    ('kernel_size', 0, 'config.model.kernel_size = 0 is not'),
    ('num_classes', 0, 'num_classes = 0 is not'),
    ('width', 2.5, 'config.model.width = 2.5 is not a whole number'),
    (
      'activation',
      'swish',
      "config.model.activation = 'swish' is not one of .*relu",
    ),
    ('depthwise', 'fft', "config.model.depthwise = 'fft' is not one of .*xla"),
    ('bn_group_size', -1, 'config.model.bn_group_size = -1 is not at least 0'),
  ],
)
def test_refuses_a_field_out_of_range(field, value, message):
  with pytest.raises(UserError, match=message):
    small_model(**{field: value})


def test_refuses_an_image_smaller_than_a_patch():
  with pytest.raises(UserError, match=r'patch_size = 2 is larger .* \(1 x 8\)'):
    init(small_model(), jnp.zeros((1, 1, 8, 3)))


def test_refuses_an_unknown_dtype():
  config = imagenet.get_config()
  with pytest.raises(UserError, match=r"config\.dtype = 'float16' is unknown"):
    create_model(config.model, 10, 'float16')
