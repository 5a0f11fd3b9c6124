"""Binary cross-entropy in training, against timm's and the formula in NumPy."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convmixer_jax.training import steps, tasks
from convmixer_jax.training.preprocess import preprocess_train

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'recipes.npz'
CASES = {  # label smoothing, threshold
  'plain': (0.0, 0.0),
  'smooth': (0.1, 0.0),
  'threshold': (0.0, 0.2),
  'smooth_threshold': (0.1, 0.2),
}


@pytest.fixture
def config(config):
  config.loss = 'binary_cross_entropy'
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  return config


@pytest.fixture(scope='module')
def arrays():
  with np.load(FIXTURE) as found:
    return {name: found[name] for name in found if name.startswith('bce/')}


@pytest.mark.parametrize('kind', ['sparse', 'dense'])
@pytest.mark.parametrize('case', CASES)
def test_loss_and_gradient_equal_timms(config, arrays, case, kind):
  config.label_smoothing, config.bce_threshold = CASES[case]
  targets = arrays['bce/targets']
  if kind == 'sparse':
    batch = {
      'image': np.zeros((6, 8, 8, 3), np.uint8),
      'label': arrays['bce/labels'].astype(np.int32),
    }
    _, targets = preprocess_train(batch, jax.random.key(0), config, 10)
  task = tasks.task_of(config)
  loss, gradient = jax.value_and_grad(
    lambda logits: jnp.mean(task.losses(logits, targets))
  )(arrays['bce/logits'])
  np.testing.assert_allclose(loss, arrays[f'bce/{case}/{kind}'], rtol=1e-6)
  theirs = arrays[f'bce/{case}/{kind}/gradient']
  np.testing.assert_allclose(gradient, theirs, rtol=1e-5, atol=1e-8)


def test_each_mixed_class_above_the_threshold_is_a_target_of_its_own(config):
  config.bce_threshold = 0.2
  targets = np.array([[0.7, 0.3, 0.0], [0.85, 0.15, 0.0]], np.float32)
  logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], np.float32)
  binary = np.array([[1, 1, 0], [1, 0, 0]])
  p = 1 / (1 + np.exp(-np.float64(logits)))
  expected = -np.mean(np.log(np.where(binary, p, 1 - p)), axis=1)
  task = tasks.task_of(config)
  np.testing.assert_allclose(task.losses(logits, targets), expected, rtol=1e-6)
  # The accuracy is that of the class with the larger share.
  assert task.scores['correct'](logits, targets) == 0.5


def test_threshold_is_for_several_labels_an_image_too(config):
  config.loss, config.dataset.multi_label = 'cross_entropy', True
  config.bce_threshold = 0.4
  task = tasks.task_of(config)
  assert task.eval_names == tasks.MULTI_LABEL.eval_names
  logits = np.array([[1.0, -2.0]], np.float32)
  np.testing.assert_array_equal(
    task.losses(logits, np.float32([[0.5, 0.4]])),
    tasks.binary_cross_entropy(logits, np.float32([[1, 0]])),
  )


def test_held_out_loss_stays_the_cross_entropy(config):
  task = tasks.task_of(config)
  logits, label = np.float32([[1, 2, 3]]), np.int32([1])
  loss = task.evaluate_images(logits, label, np.ones(1))['loss']
  expected = optax.softmax_cross_entropy_with_integer_labels(logits, label)
  np.testing.assert_array_equal(loss, expected)
  assert tasks.task_of(config).eval_names == tasks.ONE_CLASS.eval_names


def test_default_loss_is_the_one_of_old(config):
  config.loss = 'cross_entropy'
  assert tasks.task_of(config) is tasks.ONE_CLASS
  assert steps.task_of(config).losses is optax.softmax_cross_entropy
