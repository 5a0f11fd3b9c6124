"""`logits` and `predict` of trained networks: as evaluation, from any image."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

from convmixer_jax import models
from convmixer_jax.data.sources import create_source
from convmixer_jax.errors import UserError
from convmixer_jax.evaluation import protocols
from convmixer_jax.evaluation.per_image import evaluate_per_image
from convmixer_jax.pretrained import predictions
from convmixer_jax.pretrained.images import prepare_images
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.runs import load_run
from convmixer_jax.pretrained.trained_model import TrainedModel


@pytest.fixture(scope='module')
def trained(trained_run):
  return load(str(trained_run))


@pytest.fixture(scope='module')
def digits(trained):
  source = create_source(trained.config.dataset, 'test')
  return source, np.stack([source[n]['image'] for n in range(len(source))])


def test_logits_are_those_of_the_evaluation(trained, digits):
  source, images = digits
  config = trained.eval_config(64)
  config.dataset.name = 'digits'
  classes = protocols.match_classes(
    trained.class_names, trained.num_classes, source.class_names
  )
  results = evaluate_per_image(trained, source, config, classes)
  logits = trained.logits(images, batch_size=64)
  assert logits.dtype == np.float32 and logits.shape == (len(source), 10)
  order = np.argsort(-logits, axis=-1, kind='stable')
  np.testing.assert_array_equal(order[:, :5], results.best)
  wide = logits.astype(np.float64)
  loss = np.log(np.exp(wide).sum(-1)) - wide[range(len(wide)), results.label]
  np.testing.assert_allclose(results.loss, loss, rtol=1e-5, atol=1e-6)
  accuracy = np.mean(order[:, 0] == results.label)
  assert accuracy == pytest.approx(trained.metrics['eval_accuracy'])


def test_images_are_resized_cropped_and_normalised_as_by_pillow(trained):
  image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  small = Image.fromarray(image).resize((12, 8), Image.Resampling.BICUBIC)
  pixels = np.asarray(small)[None, :, 2:10].astype(np.float64) / 255
  expected = trained.model.apply(
    trained.variables, (pixels - 0.5) / 0.25, train=False
  )
  np.testing.assert_allclose(trained.logits(image), expected, atol=1e-5)


def test_any_way_to_give_an_image_gives_the_same_logits(trained, tmp_path):
  rng = np.random.default_rng(1)
  images = [
    rng.integers(0, 256, (side, 11, 3), np.uint8) for side in (8, 20, 9)
  ]
  for number, image in enumerate(images):
    Image.fromarray(image).save(tmp_path / f'{number}.png')
  expected = trained.logits(images)
  paths = [tmp_path / f'{number}.png' for number in range(3)]
  for given in (
    paths,
    tmp_path,
    str(tmp_path),
    [Image.fromarray(image) for image in images],
    [paths[0], images[1], Image.fromarray(images[2])],
    (image for image in images),
  ):
    np.testing.assert_array_equal(trained.logits(given), expected)
  np.testing.assert_allclose(trained.logits(images[1]), expected[1:2], 1e-5)
  np.testing.assert_array_equal(
    trained.logits(np.stack([images[0]] * 3)),
    np.repeat(trained.logits([images[0]] * 3)[:1], 3, axis=0),
  )


def test_no_images_give_no_logits(trained, digits):
  for images in ([], digits[1][:0]):
    assert trained.logits(images).shape == (0, 10)
    assert trained.predict(images) == []


def test_few_programs_are_compiled_for_many_numbers_of_images(
  trained, digits, monkeypatch
):
  traced = []

  def counted(infer, images):
    traced.append(images.shape[0])
    return infer(images)

  monkeypatch.setattr(predictions, 'to_logits', counted)
  for number in (1, 1, 5, 6, 7, 8, 20):
    trained.logits(digits[1][:number], batch_size=8)
  assert traced == [1, 8]


IMAGES = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (IMAGES / 255, r'the pixels are float64, of which .*np.round\(255'),
    (IMAGES.astype(int), 'the pixels are int64'),
    (IMAGES[..., 0], r'2 x 8 x 8, not .* np.repeat\(images\[..., None\], 3'),
    (IMAGES[..., :1], r'np.repeat\(images, 3, axis=-1\)'),
    (IMAGES.transpose(0, 3, 1, 2), r'images.transpose\(0, 2, 3, 1\)'),
    (np.zeros((2, 8, 8, 4), np.uint8), r'leave out alpha: images\[..., :3\]'),
    ([IMAGES[0], IMAGES[0, 0]], 'image 1: the array is 8 x 3, not'),
    (np.uint8(3), 'the array is a number'),
    (IMAGES[:, :0], 'the array has no pixels'),
    (7, 'the images are of type int'),
    ([IMAGES[0], None], 'image 1 is of type NoneType'),
    ('nowhere.png', 'nowhere.png does not exist'),
    ([Image.new('F', (8, 8))], 'has values of float32, and uint8'),
  ],
)
def test_images_of_another_kind_are_refused(trained, images, message):
  for function in (trained.logits, trained.predict):
    with pytest.raises(UserError, match=message) as refused:
      function(images)
    assert '\n' not in str(refused.value)


def test_impossible_batch_size_is_refused(trained):
  with pytest.raises(UserError, match='batch_size = 0 is not positive'):
    trained.predict(IMAGES, batch_size=0)


def test_run_predicts_with_its_best_checkpoint(trained_run, trained, digits):
  run = load_run(trained_run)
  found = run.predict(digits[1][:3])
  assert found == trained.predict(digits[1][:3])
  shares = np.exp(trained.logits(digits[1][:3]).astype(np.float64))
  shares /= shares.sum(-1, keepdims=True)
  for prediction, row in zip(found, shares, strict=True):
    assert prediction.path is None and prediction.error is None
    assert prediction.best == tuple(np.argsort(-row)[:5])
    assert prediction.names == tuple(map(str, prediction.best))
    np.testing.assert_allclose(
      prediction.probabilities, np.sort(row)[:-6:-1], rtol=1e-4
    )
  first = run.predict(digits[1][:3], checkpoint=16)
  assert first == load(f'{trained_run}@16').predict(digits[1][:3])
  assert first != found


def test_unreadable_file_has_an_error_in_place_of_classes(trained, tmp_path):
  (tmp_path / 'a.png').write_bytes(b'nothing')
  Image.new('RGB', (8, 8)).save(tmp_path / 'b.png')
  broken, found = trained.predict(tmp_path)
  assert 'cannot decode image' in broken.error and broken.best == ()
  assert found.path == str(tmp_path / 'b.png') and len(found.best) == 5
  with pytest.raises(UserError, match=r'cannot decode image .*a\.png'):
    trained.logits(tmp_path)


def test_prepared_images_are_those_of_the_network(trained, digits):
  prepared = prepare_images(digits[1][:2], trained.eval_config(2))
  np.testing.assert_array_equal(prepared, digits[1][:2])  # already 8 x 8


def test_largest_network_classifies_an_image_in_little_besides_its_weights():
  """By the compiled program of shapes alone: nothing is run."""
  fields = dict(models.model_config(**models.VARIANTS['resmlp_b24_8']))
  architecture = models.MODELS[fields.pop('name')]
  shapes = architecture.variable_shapes(architecture.module(**fields), 224)
  network = TrainedModel.create('resmlp', fields, 1000, shapes, {})
  make = functools.partial(
    predictions._make_inference,
    model=network.model,
    config=network.eval_config(1),
  )
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.uint8)
  step = jax.jit(predictions._to_predictions)
  program = step.lower(jax.eval_shape(make, shapes), image).compile()
  memory = program.memory_analysis()
  weights = 4 * 129_138_280
  assert memory.argument_size_in_bytes < weights + 1e6
  assert memory.temp_size_in_bytes < 64e6
  assert 2 * weights + memory.temp_size_in_bytes < 2e9  # and the file's
