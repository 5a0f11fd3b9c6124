"""Loss and metrics of several labels an image, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics as reference

from convmixer_jax.models import architecture_of, create_model
from convmixer_jax.training import steps, tasks
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.preprocess import preprocess_train

K = 5


def logits_and_targets(count=6, scale=4.0):
  rng = np.random.default_rng(0)
  logits = (rng.normal(size=(count, K)) * scale).astype(np.float32)
  targets = (rng.random((count, K)) < 0.4).astype(np.float32)
  return logits, targets


def reference_loss(logits, targets):
  """PyTorch's BCEWithLogitsLoss with reduction='none', in float64.

  max(x, 0) - x y + log(1 + exp(-|x|)); the gradient by x is sigmoid(x) - y.
  """
  logits, targets = np.float64(logits), np.float64(targets)
  stable = np.log1p(np.exp(-np.abs(logits)))
  return np.maximum(logits, 0) - logits * targets + stable


@pytest.mark.parametrize('scale', [1.0, 40.0])
def test_loss_and_gradient_are_those_of_pytorch(scale):
  logits, targets = logits_and_targets(scale=scale)
  targets = targets * 0.9 + 0.1 * np.roll(targets, 1, axis=0)  # as mixup does
  losses = tasks.binary_cross_entropy(logits, targets)
  expected = reference_loss(logits, targets)
  np.testing.assert_allclose(losses, expected.mean(axis=-1), rtol=1e-6)
  gradient = jax.grad(
    lambda x: jnp.mean(tasks.binary_cross_entropy(x, targets))
  )(logits)
  sigmoid = 1 / (1 + np.exp(-np.float64(logits)))
  np.testing.assert_allclose(
    gradient, (sigmoid - targets) / logits.size, rtol=1e-5, atol=1e-8
  )


@pytest.mark.slow
def test_targets_are_smoothed_and_mixed_as_for_one_class(config):
  """So for images with one label the targets are those of timm."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (8, 8, 8, 3), np.uint8)
  label = rng.integers(0, K, 8)
  multi_hot = np.eye(K, dtype=np.int32)[label]
  config.erasing.probability = 0.0
  found = [
    preprocess_train(
      {'image': images, 'label': label}, jax.random.key(1), config, K
    )[1]
    for label in (np.int32(label), multi_hot)
  ]
  np.testing.assert_array_equal(*found)


def test_multi_hot_targets_are_smoothed_by_a_share_of_all_classes(config):
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.erasing.probability = 0.0
  images = np.zeros((2, 8, 8, 3), np.uint8)
  label = np.int32([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
  _, targets = preprocess_train(
    {'image': images, 'label': label}, jax.random.key(0), config, K
  )
  np.testing.assert_allclose(targets, 0.9 * label + 0.1 / K, rtol=1e-6)


def train_metrics(logits, targets, skipped=False):
  scores = {
    name: score(logits, targets)
    for name, score in tasks.MULTI_LABEL.scores.items()
  }
  scalars = dict.fromkeys(
    ('loss', 'learning_rate', 'gradient_norm', 'parameter_norm', 'update_norm'),
    jnp.float32(0),
  )
  return jax.device_get(
    tasks.MULTI_LABEL.train_metrics.single_from_model_output(
      skipped=jnp.bool_(skipped), **scalars, **scores
    )
  )


def test_f1_of_training_is_over_all_steps_but_the_skipped():
  logits, targets = logits_and_targets(8)
  parts = [(logits[:4], targets[:4]), (logits[4:], targets[4:])]
  first, second = (train_metrics(*part) for part in parts)
  merged = first.merge(train_metrics(*parts[1], skipped=True)).merge(second)
  np.testing.assert_allclose(
    merged.compute()['train_f1_micro'],
    reference.f1_score(targets > 0.5, logits >= 0, average='micro'),
    rtol=1e-6,
  )
  skipped = train_metrics(*parts[0], skipped=True)
  assert np.isnan(skipped.compute()['train_f1_micro'])


def test_metrics_of_an_evaluation_leave_out_the_padding():
  logits, labels = logits_and_targets(9)
  labels[:, 0] = 0  # no image has this class
  whole = tasks.MULTI_LABEL.summarize(
    [evaluate(logits, labels, np.ones(9, np.float32))]
  )
  padded = np.concatenate([logits, 9 * np.ones((1, K), np.float32)])
  padded_labels = np.concatenate([labels, np.ones((1, K), np.float32)])
  mask = np.float32([1] * 9 + [0])
  parts = tasks.MULTI_LABEL.summarize(
    evaluate(padded[rows], padded_labels[rows], mask[rows])
    for rows in (slice(0, 5), slice(5, 10))
  )
  assert parts == pytest.approx(whole, rel=1e-6)
  assert list(whole) == list(tasks.MULTI_LABEL.eval_names)
  np.testing.assert_allclose(
    whole['eval_mean_average_precision'],
    reference.average_precision_score(labels[:, 1:], logits[:, 1:]),
  )
  np.testing.assert_allclose(
    whole['eval_f1_micro'],
    reference.f1_score(labels, logits >= 0, average='micro'),
  )
  np.testing.assert_allclose(
    whole['eval_loss'], reference_loss(logits, labels).mean(), rtol=1e-6
  )


def evaluate(logits, labels, mask):
  return jax.device_get(
    tasks.MULTI_LABEL.evaluate_images(logits, np.int32(labels), mask)
  )


def test_outputs_that_are_nan_have_no_average_precision():
  logits, labels = logits_and_targets(9)
  logits[2, 1] = np.nan
  found = tasks.MULTI_LABEL.summarize(
    [evaluate(logits, labels, np.ones(9, np.float32))]
  )
  assert np.isnan(found['eval_mean_average_precision'])


@pytest.mark.slow
def test_microbatches_add_up_to_the_same_counts(config):
  config.dataset.multi_label = True
  assert tasks.task_of(config) is tasks.MULTI_LABEL
  config.mixup.mixup_alpha = config.mixup.cutmix_alpha = 0.0
  config.erasing.probability = 0.0
  config.model.depth = 1
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.integers(0, 255, (8, 8, 8, 3), np.uint8),
    'label': rng.integers(0, 2, (8, K), np.int32),
  }
  model = create_model(config.model, K, config.dtype)
  schedule = optax.constant_schedule(0.0)
  optimizer = create_optimizer(config, schedule, architecture_of(model))
  found = []
  for accum_steps in (1, 2):
    config.accum_steps = accum_steps
    config.backbone_lr_scale = 0.0  # BatchNorm by its running statistics
    state = jax.jit(lambda: steps.create_state(model, optimizer, config))()
    step = jax.jit(steps.make_train_step(model, optimizer, schedule, config))
    metrics = jax.device_get(step(state, batch)[1])
    found.append(metrics.compute())
  for name in ('train_loss', 'train_f1_micro', 'gradient_norm'):
    np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)
