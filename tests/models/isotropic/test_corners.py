"""The isotropic network with a known network's settings is that network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import DATASET, create, images_of, normalized

from convmixer_jax import models
from convmixer_jax.models.inference import make_inference
from convmixer_jax.models.isotropic import CORNERS, VARIANTS, from_network

TOLERANCE = 1e-6
# Fields of the networks, for images of 8 x 8 pixels.
NETWORKS = {
  'convmixer': {'patch_size': 2, 'kernel_size': 3, 'activation': 'relu'},
  'vit': {'patch_size': 2, 'heads': 2, 'mlp_ratio': 3, 'drop_path': 0.0},
  'resmlp': {'patch_size': 2, 'layer_scale': 0.5, 'drop_path': 0.0},
  'mixer': {'patch_size': 2, 'token_hidden': 12, 'drop_path': 0.0},
}
CORNER = pytest.mark.parametrize(
  'name',
  [
    'convmixer',
    *(pytest.param(n, marks=pytest.mark.slow) for n in list(NETWORKS)[1:]),
  ],
)


def both(name, **changes):
  """Returns a network and its variables, and the same of the family."""
  fields = NETWORKS[name] | changes
  network, variables = create(name, **fields)
  sizes = {'width': network.width, 'depth': network.depth}
  corner = models.model_config('isotropic', **CORNERS[name] | fields | sizes)
  ours = models.create_model(corner, network.num_classes)
  return network, variables, ours, from_network(variables, network.patch_size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def logits_and_gradient(model, train, variables):
  images, labels = normalized(images_of(count=8)), jnp.arange(8)
  rest = {k: v for k, v in variables.items() if k != 'params'}

  def loss(params):
    logits, updated = model.apply(
      {'params': params, **rest}, images, train=train, mutable=['batch_stats']
    )
    loss = -jax.nn.log_softmax(logits)[labels, labels].mean()
    return loss, (logits, updated)

  gradient, results = jax.grad(loss, has_aux=True)(variables['params'])
  return *results, gradient


@CORNER
def test_corner_has_logits_gradients_and_statistics_of_its_network(name):
  network, theirs, ours, variables = both(name)
  shapes = jax.eval_shape(
    lambda: ours.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
  for train in (False, True):
    expected = logits_and_gradient(network, train, theirs)
    found = logits_and_gradient(ours, train, variables)
    patch_size = network.patch_size
    expected = (
      expected[0],
      from_network(expected[1], patch_size),
      from_network({'params': expected[2]}, patch_size)['params'],
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
        a, b, rtol=TOLERANCE, atol=TOLERANCE
      ),
      found,
      expected,
    )
    assert np.ptp(found[0], axis=0).min() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize('name', ['convmixer', 'resmlp'])
def test_each_switch_of_a_corner_matters(name):
  """So that a corner is not equal for want of a difference."""
  _, _, ours, variables = both(name)
  images = normalized(images_of())
  expected = ours.apply(variables, images, train=False)
  changes = {
    'convmixer': {'residual': 'both', 'token_activation': False},
    'resmlp': {'token_activation': True, 'activation': 'relu'},
  }
  for key, value in changes[name].items():
    logits = ours.clone(**{key: value}).apply(variables, images, train=False)
    assert np.abs(logits - expected).max() > 1e-3, key


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_corner_is_initialised_as_its_network(name):
  fields = {'width': 96, 'depth': 2, 'patch_size': 4} | {
    'convmixer': {'kernel_size': 3},
    'vit': {'heads': 2},
    'resmlp': {'layer_scale': 0.1},
    'mixer': {'token_hidden': 48},
  }[name]
  network = models.create_model(models.model_config(name, **fields), 96)
  config = models.model_config('isotropic', **CORNERS[name] | fields)
  ours = models.create_model(config, 96)
  image = jnp.zeros((1, 32, 32, 3))
  theirs, variables = (
    jax.jit(functools.partial(model.init, train=False))(
      jax.random.key(0, impl='rbg'), image
    )
    for model in (network, ours)
  )

  def assert_alike(path, a, b):
    assert a.shape == b.shape, path
    # The last one distinguishes distributions of the same deviation.
    for measure in (np.mean, np.std, lambda x: np.quantile(x, 0.9)):
      tolerance = max(10 * np.std(b), 1e-9) / np.sqrt(b.size)
      error = abs(measure(a) - measure(b))
      assert error <= tolerance, path

  jax.tree_util.tree_map_with_path(
    assert_alike, variables, from_network(theirs, 4)
  )


@pytest.mark.slow
def test_convmixer_corner_is_classified_by_the_folded_form():
  network, theirs, ours, variables = both('convmixer')
  images = images_of()
  dataset = DATASET.copy_and_resolve_references()
  expected, found = (
    make_inference(model, its, dataset)(images)
    for model, its in ((network, theirs), (ours, variables))
  )
  np.testing.assert_array_equal(found, expected)
  other = make_inference(ours.clone(residual='both'), variables, dataset)
  assert np.abs(other(images) - expected).max() > 1e-3


@pytest.mark.parametrize(
  ('name', 'published'),
  [
    ('isotropic_convmixer', '768_32'),
    ('isotropic_vit', 'vit_b16'),
    ('isotropic_resmlp', 'resmlp_s12'),
    ('isotropic_mixer', 'mixer_b16'),
  ],
)
def test_variants_have_the_shapes_of_published_networks(name, published):
  image = jnp.zeros((1, 224, 224, 3))

  def shapes(variant):
    model = models.create_model(
      models.model_config(**models.VARIANTS[variant]), 1000
    )
    return jax.eval_shape(
      lambda: model.init(jax.random.key(0), image, train=False)
    )

  theirs = shapes(published)
  p = VARIANTS[name]['patch_size']
  renamed = jax.eval_shape(
    functools.partial(from_network, patch_size=p), theirs
  )
  assert jax.tree.map(jnp.shape, shapes(name)) == jax.tree.map(
    jnp.shape, renamed
  )
