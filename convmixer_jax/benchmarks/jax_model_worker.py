"""Runs steps of this project's network or plain Flax, for `benchmarks.model`.

  python -m convmixer_jax.benchmarks.jax_model_worker NETWORK

The training step is `training.steps.make_train_step` for both, so that only the
network differs: normalisation of the uint8 batch, forward pass, cross entropy,
backward pass, AdamW, the norms and the check for finite values, without
augmentation or clipping. The forward step is the network in evaluation; this
project's has BatchNorm folded.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE, Steps, serve
from convmixer_jax.benchmarks.plain_flax import PlainConvMixer
from convmixer_jax.config import default_config
from convmixer_jax.kernels.cpu import library
from convmixer_jax.models import DTYPES, ConvMixer
from convmixer_jax.models.convmixer.folding import (
  apply_folded,
  fold,
  pack_folded_weights,
)
from convmixer_jax.training import steps
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.schedules import create_schedule

_NETWORKS: dict[str, Callable[..., Any]] = {
  'project': ConvMixer,
  'project_scan': partial(ConvMixer, scan=True),
  'plain_flax': PlainConvMixer,
}


def _config(image_size):
  """Returns AdamW at a constant rate; neither augmentation nor clipping."""
  config = default_config(ml_collections.ConfigDict())
  config.dataset.image_size = image_size
  config.schedule = 'constant'
  config.learning_rate = 1e-3
  config.weight_decay = 0.01
  config.decay_all = True
  config.adam_epsilon = 1e-8
  config.clip_norm = 0.0
  return config


def create(
  name: str, case: dict[str, Any]
) -> tuple[dict[str, Steps], dict[str, Any]]:
  """Returns `forward`, `train` and `matmul` steps, and the versions.

  Args:
    name: 'project', 'project_scan' (a loop over the blocks) or 'plain_flax'.
    case: fields of a `benchmark_cases.BenchmarkCase`.
  """
  case = dict(case)
  image_size, batch_size = case.pop('image_size'), case.pop('batch_size')
  if jax.default_backend() == 'cpu':
    # Compiles the kernels: that is done once per machine, so it does not count
    # as compilation of a step.
    library.unavailable('depthwise', case['kernel_size'])
  dtype = DTYPES[case.pop('dtype')]
  model = _NETWORKS[name](**case, dtype=dtype)
  config = _config(image_size)
  schedule = create_schedule(config, steps_per_epoch=1, num_steps=1)
  optimizer = create_optimizer(config, schedule)
  state = jax.jit(lambda: steps.create_state(model, optimizer, config))()
  train_step = jax.jit(
    steps.make_train_step(model, optimizer, schedule, config),
    donate_argnums=0,
  )

  weights = {'params': state.params, 'batch_stats': state.batch_stats}
  forward_step = jax.jit(partial(model.apply, train=False))
  if name != 'plain_flax':
    weights = pack_folded_weights(model, fold(weights))
    forward_step = jax.jit(partial(apply_folded, model))
  weights = jax.tree.map(jnp.copy, weights)  # train_step donates its own

  rng = np.random.default_rng(0)
  size = (batch_size, image_size, image_size, 3)
  batch = {
    'image': jnp.asarray(rng.integers(0, 256, size, np.uint8)),
    'label': jnp.asarray(rng.integers(0, case['num_classes'], batch_size)),
  }
  images = jnp.asarray(rng.normal(size=size), jnp.float32)
  matrix = jnp.ones((MATMUL_SIZE, MATMUL_SIZE))
  product = jax.jit(jnp.matmul)

  def forward(count):
    for _ in range(count):
      logits = forward_step(weights, images)
    jax.block_until_ready(logits)

  def train(count):
    nonlocal state
    for _ in range(count):
      state, metrics = train_step(state, batch)
    jax.block_until_ready((state, metrics))
    return lambda: (
      {'loss': float(metrics.train_loss.compute())} | _device_peak()
    )

  def matmul(count):
    for _ in range(count):
      result = product(matrix, matrix)
    jax.block_until_ready(result)

  versions = {name: metadata.version(name) for name in ('jax', 'flax', 'optax')}
  kinds = {'matmul': matmul, 'forward': forward, 'train': train}
  about = {'versions': versions, 'device': jax.devices()[0].device_kind}
  return kinds, about


def _device_peak():
  """Returns the peak memory of the device so far, if the device reports it."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' not in stats:
    return {}
  return {'device_peak': stats['peak_bytes_in_use'] / 2**20}


if __name__ == '__main__':
  serve(lambda case: create(sys.argv[1], case))
