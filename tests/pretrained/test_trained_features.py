"""The features of images: prepared as in evaluation, by layer, of any size."""

import architectures
import jax
import numpy as np
import optax
import pytest
from PIL import Image
from trained_models import trained_model

from convmixer_jax.errors import UserError
from convmixer_jax.models import features as features_lib


def network(name='convmixer', **changes):
  model, variables = architectures.create(name, num_classes=3, **changes)
  dataset = architectures.DATASET
  known = {
    'image_size': 8,
    'eval_crop_fraction': 0.8,
    'mean': tuple(dataset.mean),
    'std': tuple(dataset.std),
  }
  return trained_model(model, variables, **known)


@pytest.fixture(scope='module')
def trained():
  return network()


def apply_normalized(trained, pixels, layers='all'):
  """Normalises with NumPy and applies the network."""
  return features_lib.apply_with_features(
    trained.model, trained.variables, architectures.normalized(pixels), layers
  )


def central_crops(photos):
  """Resizes the short side to 8 / 0.8 and crops the middle, with Pillow."""
  crops = []
  for photo in photos:
    height, width = photo.shape[:2]
    short = min(height, width)
    size = int(10 * width / short), int(10 * height / short)
    resized = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - 8) / 2) for side in size)
    crops.append(np.asarray(resized.crop((left, top, left + 8, top + 8))))
  return np.stack(crops)


def photos_of(*shapes):
  rng = np.random.default_rng(3)
  return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def test_features_are_of_images_prepared_as_in_evaluation(trained, tmp_path):
  photos = photos_of((20, 30), (30, 20), (10, 10))
  Image.fromarray(photos[1]).save(tmp_path / 'tall.png')
  features = trained.features(
    [photos[0], tmp_path / 'tall.png', photos[2]], 'all', batch_size=2
  )
  expected = apply_normalized(trained, central_crops(photos))
  assert features.names == ('stem', 'block1', 'block2', 'last')
  assert features.grid.shape == (3, 4, 4, 8)
  for ours, theirs in zip(
    jax.tree.leaves(features), jax.tree.leaves(expected), strict=True
  ):
    assert type(ours) is np.ndarray and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
  logits = trained.logits(photos)
  np.testing.assert_allclose(features.logits, logits, rtol=0, atol=2e-5)


def test_images_keep_their_size_if_they_are_not_resized(trained):
  photos = np.stack(photos_of((12, 20), (12, 20)))
  features = trained.features(photos, 1, resize=False)
  assert features.grid.shape == (2, 6, 10, 8)
  expected = apply_normalized(trained, photos, 'block1')
  np.testing.assert_allclose(features.grid, expected.grid, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_images_are_resized_to_the_size_given(trained):
  photos = photos_of((20, 30), (30, 20))
  assert trained.features(photos, image_size=16).grid.shape == (2, 8, 8, 8)
  wide = trained.features(photos, image_size=(8, 16))
  assert wide.grid.shape == (2, 4, 8, 8)


@pytest.mark.slow
def test_class_token_of_a_vit_is_apart_from_the_grid():
  trained = network('vit')
  features = trained.features(photos_of((8, 8)), 'all')
  assert features.names == ('stem', 'block1', 'block2', 'last')
  assert features.grid.shape == (1, 4, 4, 8)
  np.testing.assert_array_equal(features.class_token, features.pooled)
  with pytest.raises(UserError, match='does not divide the image'):
    trained.features(photos_of((8, 9)), resize=False)


def test_no_images_have_features_of_no_rows(trained):
  features = trained.features([])
  assert features.grid.shape == (0, 4, 4, 8)
  assert features.pooled.shape == (0, 8)


def test_second_call_with_as_many_images_does_not_compile(trained, caplog):
  with jax.log_compiles(), caplog.at_level('WARNING'):
    trained.features(photos_of((8, 8), (8, 8), (8, 8)), 'block1')
    assert 'Finished XLA compilation' in caplog.text
    caplog.clear()
    trained.features(photos_of(*[(9, 9)] * 4), 'block1')
  assert 'Finished XLA compilation' not in caplog.text


@pytest.mark.parametrize(
  ('shapes', 'options', 'message'),
  [
    ([(8, 8)], {'layers': 'head'}, "there is no layer 'head'; there are stem"),
    ([(8, 8)], {'batch_size': 0}, 'batch_size = 0 is not positive'),
    ([(8, 8), (8, 9)], {'resize': False}, r'8 x 8 pixels and image 1 8 x 9; w'),
    ([(1, 8)], {'resize': False}, 'are smaller than a patch'),
  ],
)
def test_wrong_arguments_are_refused(trained, shapes, options, message):
  with pytest.raises(UserError, match=message) as error:
    trained.features(photos_of(*shapes), **options)
  assert '\n' not in str(error.value)


@pytest.mark.slow
def test_backbone_is_differentiated_and_trained(trained):
  """A regression on top, of which the backbone's weights learn too."""
  backbone = trained.backbone('block1')
  photos = np.stack(photos_of((8, 8), (8, 8)))
  target = np.float32([[1.0], [-1.0]])
  variables = trained.variables
  params = {'backbone': variables['params'], 'head': np.zeros((8, 1))}

  @jax.jit
  def loss_of(params):
    pooled = backbone(variables | {'params': params['backbone']}, photos).pooled
    return ((pooled @ params['head'] - target) ** 2).mean()

  optimizer = optax.adam(0.03)
  state = optimizer.init(params)
  before = loss_of(params)
  for _ in range(20):
    updates, state = optimizer.update(jax.grad(loss_of)(params), state)
    params = optax.apply_updates(params, updates)
  assert loss_of(params) < before / 2
  kernel = params['backbone']['patch_embedding']['kernel']
  assert np.abs(kernel - variables['params']['patch_embedding']['kernel']).max()


@pytest.mark.slow
def test_backbone_takes_floats_from_0_to_1(trained):
  photos = np.stack(photos_of((8, 8)))
  backbone = trained.backbone()
  of_bytes = backbone(trained.variables, photos)
  of_floats = backbone(trained.variables, photos / np.float32(255))
  np.testing.assert_allclose(of_bytes.grid, of_floats.grid, atol=2e-5)


def test_layers_have_the_names_of_the_features(trained):
  assert trained.layer_names == ('stem', 'block1', 'block2', 'last')
