"""Runs steps of this project's networks or plain Flax, for `benchmarks.model`.

  python -m convmixer_jax.benchmarks.jax_model_worker NETWORK

The training step is `training.steps.make_train_step` for both, so that only the
network differs: normalisation of the uint8 batch, forward pass, cross entropy,
backward pass, AdamW, the norms and the check for finite values, without
augmentation or clipping. The forward step is the network in evaluation; this
project's has its `Architecture.inference`, where BatchNorm is folded.
"""

import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from convmixer_jax.benchmarks import gpu_profile
from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE, Steps, serve
from convmixer_jax.benchmarks.plain_flax import PlainConvMixer
from convmixer_jax.benchmarks.step_profile import profile
from convmixer_jax.config import default_config
from convmixer_jax.kernels.cpu import build, library
from convmixer_jax.models import (
  DTYPES,
  create_model,
  find_architecture,
  model_config,
)
from convmixer_jax.training import steps
from convmixer_jax.training.optimizer import create_optimizer
from convmixer_jax.training.random_kernels import draw_by_kernels
from convmixer_jax.training.schedules import create_schedule


def _create_network(name: str, case: Mapping[str, Any]) -> nn.Module:
  """Returns the network of a case; see `create`."""
  num_classes, dtype = case['num_classes'], case['dtype']
  if name.startswith('plain_flax'):
    return PlainConvMixer(
      **case['fields'],
      num_classes=num_classes,
      dtype=DTYPES[dtype],
      loop=name.endswith('_scan'),
    )
  fields = dict(case['fields'])
  known = find_architecture(case['network']).fields
  if name == 'project_scan' and 'scan' in known:
    fields['scan'] = True
  return create_model(
    model_config(case['network'], **fields),
    num_classes,
    dtype,
    case['image_size'],
  )


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

  `profile_forward` and `profile_train` run their steps a second time under the
  profiler, and report a `profile`: on CPUs that of `step_profile.profile`, on
  GPUs that of `gpu_profile.profile`.

  Args:
    name: 'project' or 'plain_flax'; with '_scan' a loop over the blocks, where
      the network has one.
    case: fields of a `benchmark_cases.BenchmarkCase`.
  """
  image_size, batch_size = case['image_size'], case['batch_size']
  if jax.default_backend() == 'cpu' and 'kernel_size' in case['fields']:
    # Compiles the kernels: that is done once per machine, so it does not count
    # as compilation of a step.
    library.unavailable('depthwise', case['fields']['kernel_size'])
  model = _create_network(name, case)
  config = _config(image_size)
  schedule = create_schedule(config, steps_per_epoch=1, num_steps=1)
  optimizer = create_optimizer(config, schedule)
  state = draw_by_kernels(
    jax.jit(lambda: steps.create_state(model, optimizer, config))
  )()
  train_step = jax.jit(
    steps.make_train_step(model, optimizer, schedule, config),
    donate_argnums=0,
  )

  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  variables = jax.tree.map(jnp.copy, variables)  # train_step donates its own
  infer: Callable[[jax.Array], jax.Array]
  if name.startswith('plain_flax'):
    infer = jax.tree_util.Partial(_evaluate(model), variables)
  else:
    # The images of this step are normalised already.
    infer = find_architecture(case['network']).make_inference(
      model, variables, jnp.zeros(3), jnp.ones(3), pack_weights=True
    )
  forward_step = jax.jit(lambda infer, images: infer(images))

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
      logits = forward_step(infer, images)
    jax.block_until_ready(logits)
    return lambda: _memory(forward_step, infer, images)

  def train(count):
    nonlocal state
    for _ in range(count):
      state, metrics = train_step(state, batch)
    jax.block_until_ready((state, metrics))
    return lambda: {
      'loss': float(metrics.train_loss.compute()),
      **_memory(train_step, state, batch),
      **_device_peak(),
    }

  def matmul(count):
    for _ in range(count):
      result = product(matrix, matrix)
    jax.block_until_ready(result)

  def profile_of(run, compile_step):
    def run_one_by_one(count):
      # Of steps at once, an operation's time has that of others in it.
      for _ in range(count):
        run(1)

    def run_and_profile(count):
      start = time.perf_counter()
      run_one_by_one(count)
      seconds = (time.perf_counter() - start) / count
      found = profile(
        lambda: run_one_by_one(count),
        compile_step().as_text(),
        count,
        seconds,
      )
      return lambda: {'profile': found}

    return run_and_profile

  versions = {name: metadata.version(name) for name in ('jax', 'flax', 'optax')}
  kinds: dict[str, Steps] = {
    'matmul': matmul,
    'forward': forward,
    'train': train,
  }
  about = {'versions': versions, 'device': jax.devices()[0].device_kind}
  if jax.default_backend() == 'gpu':
    kinds |= {
      f'profile_{kind}': _profile_on_gpu(kinds[kind])
      for kind in ('forward', 'train')
    }
  if jax.default_backend() == 'cpu':
    # Both have been compiled; this finds the same programs.
    kinds['profile_forward'] = profile_of(
      forward, lambda: forward_step.lower(infer, images).compile()
    )
    kinds['profile_train'] = profile_of(
      train, lambda: train_step.lower(state, batch).compile()
    )
    if not library.unavailable('linear'):
      about['kernel_vector_bits'] = build.vector_bits()
  return kinds, about


def _evaluate(model):
  return lambda variables, images: model.apply(variables, images, train=False)


def _profile_on_gpu(run):
  def run_and_profile(count):
    found = gpu_profile.profile(run, count)
    return lambda: {'profile': found}

  return run_and_profile


def _memory(step, *arguments):
  """Returns the bytes that a compiled step needs, by its compiler, in MiB."""
  # The call has compiled it; this finds the same program.
  found = step.lower(*arguments).compile().memory_analysis()
  if found is None:  # not on this platform
    return {}
  total = (
    found.argument_size_in_bytes
    + found.output_size_in_bytes
    + found.temp_size_in_bytes
    - found.alias_size_in_bytes
  )
  return {'program_memory': total / 2**20}


def _device_peak():
  """Returns the peak memory of the device so far, if the device reports it."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' not in stats:
    return {}
  return {'device_peak': stats['peak_bytes_in_use'] / 2**20}


if __name__ == '__main__':
  serve(lambda case: create(sys.argv[1], case))
