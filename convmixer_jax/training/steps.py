"""The training and evaluation steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from clu import metrics
from flax import linen as nn

from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.config import image_shape
from convmixer_jax.models import architecture_of, stacks
from convmixer_jax.models.inference import make_inference
from convmixer_jax.training import ema
from convmixer_jax.training.preprocess import preprocess_train
from convmixer_jax.training.tasks import task_of
from convmixer_jax.training.update import rule_of_kernel, update_state

# Purposes of random numbers; each has its own stream.
_INIT, _PREPROCESS, _LAYERS = range(3)

Batch = dict[str, jax.Array]


def create_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  config: ml_collections.ConfigDict,
  start: dict[str, Any] | None = None,
) -> TrainState:
  """Initialises parameters, statistics and optimizer from `config.seed`.

  Args:
    model: the network.
    optimizer: of its parameters.
    config: the whole config.
    start: `params` and `batch_stats` of modules (`blocks`, `head`, ...) that
      do not start from random numbers.
  """
  rng = jax.random.fold_in(jax.random.key(config.seed), _INIT)
  images = jnp.zeros((1, *image_shape(config.dataset)))
  variables = _as_loop(model).init(rng, images, train=False)
  if start:
    variables = {
      name: variables[name] | start.get(name, {}) for name in variables
    }
  params, batch_stats = variables['params'], variables.get('batch_stats', {})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(params),
    ema={'params': params, 'batch_stats': batch_stats}
    if config.ema_decay
    else {},
  )


def _as_loop(model):
  """Returns a network with the same parameters that runs its blocks as a loop.

  The draws of one block compile in a fraction of the time of all of them.
  """
  return model.clone(scan=True) if hasattr(model, 'scan') else model


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule | None,
  config: ml_collections.ConfigDict,
  gather: Callable[[Any], Any] = lambda params: params,
  split: Callable[[Any], Any] = lambda batch: batch,
  one_operation: bool = True,
) -> Callable[[TrainState, Batch], tuple[TrainState, metrics.Collection]]:
  """Returns the update of one batch, to be jitted with the state donated.

  The batch has `image` `[B, H, W, C]` and `label`, `[B]` or, with several
  labels an image, `[B, K]` of 0 and 1. With
  `config.accum_steps` = A it is split into A microbatches, microbatch a being
  rows a, a + A, ... (so that each device splits its own rows), and the
  gradients are averaged; the result differs only by BatchNorm.

  A step whose loss, gradient, update or BatchNorm statistics are not finite is
  skipped: only `step` of the state changes. So the state stays finite.

  Random layers draw from the stream `dropout`, which follows from
  `config.seed`, the step and the microbatch.

  With `config.backbone_lr_scale` = 0 all but the head is frozen: BatchNorm
  works with its running statistics, as in evaluation, and does not update them.

  `schedule` is None for an optimizer of the user's, whose counts then stay as
  they are. `gather` is what the parameters go through before use; see
  `sharding.Gather`. `split` is what the preprocessed batch goes through; see
  `sharding.split_batch`. For `one_operation` see `update_state`.
  """
  is_frozen = config.backbone_lr_scale == 0
  task = task_of(config)

  def loss_of_microbatch(params, batch_stats, images, targets, rng):
    params = gather(stacks.stack(params))
    if is_frozen:  # the norms of the gradient are then those of the head
      head = architecture_of(model).head
      params = jax.lax.stop_gradient(params) | {head: params[head]}
    logits, updated = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      train=not is_frozen,
      mutable=['batch_stats'],
      rngs={'dropout': rng},
    )
    losses = task.losses(logits, targets)
    scores = {
      name: score(logits, targets) for name, score in task.scores.items()
    }
    batch_stats = updated.get('batch_stats', {})
    return jnp.mean(losses), (batch_stats, scores)

  microbatch_gradient = jax.value_and_grad(loss_of_microbatch, has_aux=True)

  def train_step(state, batch):
    def rng_for(purpose):
      rng = jax.random.fold_in(jax.random.key(config.seed), purpose)
      return jax.random.fold_in(rng, state.step)

    images, targets = split(
      preprocess_train(batch, rng_for(_PREPROCESS), config, model.num_classes)
    )
    params = state.params
    if (
      one_operation
      and not getattr(model, 'scan', True)
      and rule_of_kernel(optimizer, schedule, params)
    ):
      params = stacks.unstack(params, architecture_of(model).stacked)
    gradient, loss, scores, batch_stats = _accumulate_gradients(
      microbatch_gradient,
      params,
      state.batch_stats,
      images,
      targets,
      rng_for(_LAYERS),
      config.accum_steps,
      task.scores,
    )
    new_state, report = update_state(
      state,
      gradient,
      loss,
      batch_stats,
      optimizer=optimizer,
      schedule=schedule,
      config=config,
      one_operation=one_operation,
    )
    return new_state, task.train_metrics.single_from_model_output(
      loss=loss, **scores, **report
    )

  return train_step


def _accumulate_gradients(
  microbatch_gradient,
  params,
  batch_stats,
  images,
  targets,
  rng,
  num_microbatches,
  score_names,
):
  """Averages gradient, loss and scores; chains BatchNorm's statistics."""

  def run_microbatch(batch_stats, part):
    (loss, (batch_stats, scores)), gradient = microbatch_gradient(
      params, batch_stats, *part
    )
    return (gradient, loss, scores), batch_stats

  if num_microbatches == 1:
    means, batch_stats = run_microbatch(batch_stats, (images, targets, rng))
    return *means, batch_stats

  def add_microbatch(carry, part):
    sums, batch_stats = carry
    terms, batch_stats = run_microbatch(batch_stats, part)
    return (jax.tree.map(jnp.add, sums, terms), batch_stats), None

  def split(array):  # microbatch a is rows a, a + num_microbatches, ...
    parts = array.reshape(-1, num_microbatches, *array.shape[1:])
    return parts.swapaxes(0, 1)

  zeros = (
    jax.tree.map(jnp.zeros_like, params),
    0.0,
    dict.fromkeys(score_names, 0.0),
  )
  rngs = jax.random.split(rng, num_microbatches)
  (sums, batch_stats), _ = jax.lax.scan(
    add_microbatch,
    (zeros, batch_stats),
    (split(images), split(targets), rngs),
  )
  means = jax.tree.map(lambda total: total / num_microbatches, sums)
  return *means, batch_stats


def make_per_image_eval_step(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  outputs: np.ndarray | None = None,
) -> Callable[[Any, Batch], dict[str, jax.Array]]:
  """Returns a function that evaluates each image by itself.

  Args:
    model: the network.
    config: `config.dataset` has mean and standard deviation, and says whether
      the network gives one class or several.
    outputs: `[K]`, the outputs that stand for the classes 0 to K - 1; the other
      logits are left out. None: all.

  Returns:
    A function of `params` and `batch_stats`, and of a batch with `image`,
    `mask` and `label`, which is `[B]`, or `[B, K]` of 0 and 1 where several
    labels are right. It returns arrays `[B]`: `loss` and `mask`. Besides, for
    networks that give one class, `correct` and `correct_top5`; `probability` of
    the best class; and `best` `[B, min(5, K)]`, the most probable classes; the
    loss is the negative logarithm of the probability of the right labels, and
    `mask` is also 0 where no label is right. For networks that give several
    classes, `logits` `[B, K]` and `label` `[B, K]`.
  """
  task = task_of(config)

  def per_image_eval_step(variables, batch):
    images = batch['image']
    infer = make_inference(model, variables, config.dataset, dtype=images.dtype)
    logits = infer(images)
    if outputs is not None:
      logits = logits[:, outputs]
    return task.evaluate_images(logits, batch['label'], batch['mask'])

  return per_image_eval_step


def make_eval_step(
  model: nn.Module,
  config: ml_collections.ConfigDict,
  gather: Callable[[Any], Any] = lambda params: params,
) -> Callable[[TrainState, Batch], Any]:
  """Returns the evaluation of one batch with `image`, `label` and `mask`.

  Its results go to `Task.summarize`. It is of the parameters or, with
  `config.ema_evaluate`, of their average; for `gather` see `make_train_step`.
  """
  per_image_eval_step = make_per_image_eval_step(model, config)
  task = task_of(config)

  def eval_step(state, batch):
    variables = dict(ema.evaluated_variables(state, config))
    variables['params'] = gather(variables['params'])
    return task.reduce(per_image_eval_step(variables, batch))

  return eval_step
