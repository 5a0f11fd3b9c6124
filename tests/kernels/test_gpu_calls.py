"""Which GPU kernels a program for NVIDIA GPUs calls, seen by lowering it."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from convmixer_jax.kernels import depthwise_conv, residual_depthwise
from convmixer_jax.kernels.gpu import library
from convmixer_jax.models import ConvMixer
from convmixer_jax.models.convmixer.folding import make_inference

DEPTH = 2


@pytest.fixture(autouse=True)
def readable(monkeypatch):
  """Puts the macros of a kernel into the name of its module."""
  monkeypatch.setattr(library, '_is_for_absent_gpus', True)
  monkeypatch.setattr(library, '_handler_or_reason', lambda: (None, None))

  def name(instance):
    macros = [f'{key}={value}' for key, value in instance.defines]
    return ' '.join([instance.source, *macros])

  monkeypatch.setattr(library, 'module_name', name)


def calls(function, *arguments):
  """Counts the kernels of a program, by the macros that tell them apart."""
  traced = jax.jit(function).trace(*arguments)
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  bodies = {}  # equal parts of a program share a function
  for body in text.split('func.func ')[1:]:
    bodies[re.search(r'@([\w.]+)', body)[1]] = body

  def count(name):
    found = Counter()
    for entry, module in re.findall(
      r'@convmixer_gpu_launch.*?entry = "(.*?)".*?module = "(.*?)"',
      bodies[name],
    ):
      if entry == 'correlate':
        parts = ('SUMS', 'SCALE', 'RESIDUAL', 'GRADIENT')
        parts = [part for part in parts if f'{part}=1' in module]
        entry = '+'.join([entry, *parts])
      found[entry] += 1
    for called in re.findall(r'\bcall @([\w.]+)', bodies[name]):
      found += count(called)
    return found

  return dict(count('main'))


def network(batch=4, **fields):
  defaults = dict(
    width=32, depth=DEPTH, patch_size=2, kernel_size=5, num_classes=10,
    dtype=jnp.bfloat16,
  )  # fmt: skip
  model = ConvMixer(**(defaults | fields))
  images = jax.ShapeDtypeStruct((batch, 16, 16, 3), jnp.float32)
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros(images.shape), train=False)
  )
  return model, variables, images


def train(model):
  def loss(params, stats, images):
    logits, _ = model.apply(
      {'params': params, 'batch_stats': stats},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.sum(logits**2)

  return jax.grad(loss)


def train_calls(**fields):
  model, variables, images = network(**fields)
  return calls(
    train(model), variables['params'], variables['batch_stats'], images
  )


TRAINING = {
  'correlate+SUMS': DEPTH,
  'correlate+RESIDUAL+GRADIENT': DEPTH,
  'kernel_gradient': DEPTH,
  'sum_partial_sums': 2 * DEPTH,
}


@pytest.mark.parametrize(
  'fields', [{}, {'kernel_size': 8, 'activation': 'relu'}, {'remat': True}]
)
def test_training_step_calls_kernels_for_each_layer(fields):
  found = train_calls(**fields)
  if fields.get('remat'):  # computes the forward pass again
    assert found.pop('correlate+SUMS') == 2 * DEPTH
    assert found.pop('sum_partial_sums') == 3 * DEPTH
    assert found == {key: DEPTH for key in found}
  else:
    assert found == TRAINING


def test_loop_over_the_blocks_calls_the_kernels_of_one():
  found = train_calls(scan=True)
  assert found == {key: count // DEPTH for key, count in TRAINING.items()}


def test_groups_of_batch_norm_are_summed_after_the_convolution():
  assert train_calls(bn_group_size=2) == {
    'correlate': DEPTH,
    'correlate+RESIDUAL': DEPTH,
    'kernel_gradient': DEPTH,
    'sum_partial_sums': DEPTH,
  }


@pytest.mark.parametrize(
  'fields',
  [
    {'dtype': jnp.float32},
    {'width': 24},
    {'depthwise': 'xla'},
  ],
)
def test_what_is_not_supported_calls_none(fields):
  assert train_calls(**fields) == {}


@pytest.mark.parametrize('batch', [1, 4, 256])
def test_evaluation_and_inference_call_one_kernel_a_layer(batch):
  model, variables, images = network(batch)
  assert calls(
    lambda variables, images: model.apply(variables, images, train=False),
    variables,
    images,
  ) == {'correlate': DEPTH}

  def infer(variables, images):
    fast = make_inference(model, variables, jnp.zeros(3), jnp.ones(3))
    return fast(images)

  assert calls(infer, variables, images) == {'correlate+SCALE+RESIDUAL': DEPTH}


def test_program_without_a_gpu_in_sight_calls_none(monkeypatch):
  monkeypatch.setattr(library, '_is_for_absent_gpus', False)
  assert train_calls() == {}


def test_mapped_convolutions_are_left_to_xla():
  x = jnp.zeros((3, 2, 8, 8, 16), jnp.bfloat16)
  kernels = jnp.zeros((3, 5, 5, 16))

  def loss(x, kernel):
    return jnp.sum(depthwise_conv(x, kernel, backend='cuda'), dtype=jnp.float32)

  mapped = jax.vmap(jax.grad(loss, argnums=(0, 1)))
  assert calls(mapped, x, kernels) == {}


def test_export_refuses_kernels_that_other_processes_do_not_have():
  x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((3, 3, 16), jnp.float32)
  with pytest.raises(ValueError, match='convmixer_gpu_launch'):
    jax.export.export(jax.jit(depthwise_conv), platforms=['cuda'])(x, kernel)


def test_export_with_any_batch_has_the_form_of_xla():
  (batch,) = jax.export.symbolic_shape('batch')
  x = jax.ShapeDtypeStruct((batch, 8, 8, 16), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((3, 3, 16), jnp.float32)
  exported = jax.export.export(jax.jit(depthwise_conv), platforms=['cuda'])(
    x, kernel
  )
  assert 'stablehlo.convolution' in exported.mlir_module()


def test_mapped_layers_are_left_to_xla():
  x = jnp.zeros((3, 2, 8, 8, 16), jnp.bfloat16)
  parameters = jnp.zeros((5, 5, 16)), *[jnp.zeros(16)] * 3

  def loss(x, *parameters):
    y, _, _ = residual_depthwise(
      *(x, *parameters),
      activation='gelu',
      group_size=2,
      epsilon=1e-5,
      depthwise='cuda',
      backend='xla',
    )
    return jnp.sum(y, dtype=jnp.float32)

  gradients = jax.grad(loss, argnums=(0, 1))
  assert 'correlate+RESIDUAL+GRADIENT' in calls(gradients, x[0], *parameters)
  mapped = jax.vmap(gradients, in_axes=(0, *[None] * 4))
  assert calls(mapped, x, *parameters) == {}
