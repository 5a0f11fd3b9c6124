"""Explanations: exact, in the picture's coordinates, of the class asked for."""

import architectures
import jax
import numpy as np
import pytest
from bright_patches import bright_patches
from PIL import Image
from trained_models import trained_model

from convmixer_jax.analysis import plots
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer
from convmixer_jax.pretrained import explanations


@pytest.fixture(scope='module')
def trained():
  return bright_patches()


def picture(box, shape=(96, 160)):
  """Returns a black picture with a white rectangle."""
  top, left, height, width = box
  pixels = np.zeros((*shape, 3), np.uint8)
  pixels[top : top + height, left : left + width] = 255
  return pixels


@pytest.mark.parametrize(
  ('shape', 'box'),
  [
    ((96, 160), (16, 84, 22, 26)),  # the upper right corner of what is seen
    ((96, 160), (56, 44, 26, 26)),  # the lower left one
    ((160, 96), (84, 16, 26, 22)),
    ((24, 24), (4, 14, 6, 6)),
  ],
)
@pytest.mark.parametrize('layer', ['last', 'stem'])
def test_heatmap_is_bright_where_the_object_is(trained, shape, box, layer):
  pixels = picture(box, shape)
  explanation = trained.explain(pixels, 'bright', layer)
  heat = explanation.heatmap()
  assert heat.shape == shape
  bright = np.nan_to_num(heat) > np.nanmax(heat) / 2
  white = pixels[..., 0] > 0
  assert (bright & white).sum() > 0.75 * (bright | white).sum()


def test_map_covers_the_central_crop(trained):
  explanation = trained.explain(picture((40, 70, 10, 10)))
  # Resized to 32 x 53; the crop begins at row 4 and column 14.
  scale = 3, 160 / 53
  expected = 4 * scale[0], 14 * scale[1], 24 * scale[0], 24 * scale[1]
  assert explanation.box == pytest.approx(expected)
  heat = explanation.heatmap()
  seen = np.zeros((96, 160), bool)
  seen[12:84, 42:115] = True
  np.testing.assert_array_equal(~np.isnan(heat), seen)


def test_rows_that_fill_no_patch_are_not_covered(trained):
  explanation = trained.explain(picture((0, 0, 9, 9), (25, 25)), image_size=25)
  # The short side becomes 33, of which 25 are seen and 24 are in patches.
  assert explanation.maps['last'].shape == (12, 12)
  np.testing.assert_allclose(explanation.box[2:], 24 * 25 / 33)


def test_mean_of_the_map_and_the_bias_are_the_logit(trained):
  pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
  logits = trained.logits(pixels)[0]
  for target, bias in ((0, 0.25), (1, 0.5)):
    explanation = trained.explain(pixels, target)
    assert explanation.methods == {'last': 'cam'}
    mean = explanation.maps['last'].mean()
    assert mean + bias == pytest.approx(logits[target], abs=1e-6)
    assert explanation.logit == pytest.approx(logits[target], abs=1e-6)
  shares = np.exp(logits) / np.exp(logits).sum()
  assert explanation.probability == pytest.approx(shares[1], abs=1e-6)


def test_predicted_class_is_explained_by_default(trained):
  bright = trained.explain(np.full((24, 24, 3), 255, np.uint8))
  dark = trained.explain(np.zeros((24, 24, 3), np.uint8))
  assert (bright.target, bright.name) == (0, 'bright')
  assert (dark.target, dark.name) == (1, 'dark')


def test_file_is_turned_upright_as_its_exif_data_says(trained, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # turn to the right
  stored = picture((30, 55, 10, 10), (96, 96))
  Image.fromarray(stored).save(tmp_path / 'a.png', exif=exif)
  upright = trained.explain(tmp_path / 'a.png')
  np.testing.assert_array_equal(upright.image, np.rot90(stored, -1))
  as_stored = trained.explain(tmp_path / 'a.png', exif_rotate=False)
  np.testing.assert_array_equal(as_stored.image, stored)


def test_all_layers_have_a_map_each_once(trained):
  explanation = trained.explain(picture((40, 70, 10, 10)), 0, 'all')
  assert explanation.methods == {'stem': 'gradcam', 'last': 'cam'}
  only = trained.explain(picture((40, 70, 10, 10)), 0, 'all', 'gradcam')
  assert only.methods == {'stem': 'gradcam', 'last': 'gradcam'}


@pytest.mark.slow
def test_images_of_many_channels_and_another_type_are_explained():
  model = ConvMixer(
    width=4, depth=1, patch_size=2, kernel_size=3, num_classes=2
  )
  images = np.random.default_rng(0).random((1, 8, 12, 5), np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  known = {'image_size': (8, 12), 'mean': (0.5,) * 5, 'std': (0.2,) * 5}
  trained = trained_model(
    model,
    variables,
    eval_crop_fraction=1.0,
    data={'image_dtype': 'float32'},
    **known,
  )
  explanation = trained.explain(images[0], 1)
  assert explanation.image.dtype == np.float32
  logits, features = trained.logits(images), trained.features(images)
  np.testing.assert_allclose(features.logits, logits, atol=1e-5)
  np.testing.assert_allclose(explanation.logit, logits[0, 1], atol=1e-5)
  assert explanation.heatmap().shape == (8, 12)
  assert plots.to_png(plots.class_activation([explanation]))


@pytest.mark.slow
def test_default_layer_of_a_vit_is_the_last_that_counts():
  model, variables = architectures.create('vit', num_classes=3)
  known = {'image_size': 8, 'mean': (0.5,) * 3, 'std': (0.5,) * 3}
  trained = trained_model(model, variables, **known)
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  assert trained.explain(pixels).methods == {'block1': 'gradcam'}
  every = trained.explain(pixels, layers='all')
  assert list(every.maps) == ['stem', 'block1']
  with pytest.raises(UserError, match='does not depend on the grid of the la'):
    trained.explain(pixels, layers='last')
  with pytest.raises(UserError, match='CAM needs a network whose head'):
    trained.explain(pixels, method='cam')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'target': 'brigt'}, "no class 'brigt'; did you mean 'bright'.* 0 to 1$"),
    ({'target': 2}, 'there is no class 2; the network has 0 to 1$'),
    ({'target': '-1'}, 'there is no class -1'),
    ({'layers': 'blok1'}, "there is no layer 'blok1'; there are stem, block1,"),
    ({'layers': 'stem', 'method': 'cam'}, "CAM is of the layer 'last', not of"),
    ({'method': 'lime'}, "method 'lime' is unknown; there are auto, cam, grad"),
    ({'image': 'no.png'}, 'no.png does not exist'),
    ({'image': np.zeros((2, 8, 8, 3), np.uint8)}, '2 pictures are given; exp'),
    ({'image': np.zeros((8, 8), np.uint8)}, 'the array is 8 x 8, not'),
  ],
)
def test_wrong_arguments_are_refused(trained, arguments, message):
  arguments = {'image': picture((0, 0, 9, 9))} | arguments
  with pytest.raises(UserError, match=message) as error:
    trained.explain(**arguments)
  assert '\n' not in str(error.value)


def test_classes_are_found_by_name_and_number():
  trained = bright_patches(class_names=('1', 'Dark'))
  find = explanations.find_class
  assert find(trained, '1') == 0  # the name comes before the number
  assert find(trained, 1) == 1
  assert find(trained, 'dark') == 1
  twice = bright_patches(class_names=('crane', 'Crane'))
  assert find(twice, 'Crane') == 1
  with pytest.raises(UserError, match="classes 0, 1 are called 'CRANE'; give"):
    find(twice, 'CRANE')
