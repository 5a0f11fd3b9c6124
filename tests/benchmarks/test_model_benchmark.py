"""The benchmark of the model: operations, contenders, and what it prints."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convmixer_jax.benchmarks import model as model_benchmark
from convmixer_jax.benchmarks.contender import Contender
from convmixer_jax.benchmarks.model_shapes import (
  SHAPES,
  Shape,
  count_operations,
)
from convmixer_jax.benchmarks.plain_flax import PlainConvMixer
from convmixer_jax.errors import UserError
from convmixer_jax.models import DTYPES, ConvMixer

TINY = Shape(8, 2, 3, 3, num_classes=5, image_size=12, batch_size=2)

FAKE_WORKER = """
import json, sys
json.loads(sys.stdin.readline())
print(json.dumps({'about': {}}), flush=True)
for line in sys.stdin:
  kind, count = line.split()
  if kind == 'first':
    cost = {'compile': 1.0, 'step': 0.25, 'peak': 100.0}
    print(json.dumps(cost), flush=True)
    continue
  seconds = SECONDS * int(count)
  print(json.dumps({'wall': seconds, 'cpu': 2 * seconds}), flush=True)
"""


def network(cls, shape):
  sizes = dataclasses.asdict(shape)
  del sizes['image_size'], sizes['batch_size']
  return cls(**sizes | {'dtype': DTYPES[shape.dtype]})


def fake_command(seconds):
  text = FAKE_WORKER.replace('SECONDS', str(seconds))
  return [sys.executable, '-c', text]


def operations_of_jaxpr(jaxpr):
  """Counts in what JAX traced, by the shapes of each product."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      ((contracted, _), _) = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      per_output = np.prod([left[axis] for axis in contracted])
    elif equation.primitive.name == 'conv_general_dilated':
      per_output = np.prod(equation.invars[1].aval.shape[:-1])
    else:
      continue
    total += 2 * per_output * np.prod(equation.outvars[0].aval.shape)
  return total


@pytest.mark.parametrize('name', SHAPES)
def test_forward_operations_equal_those_traced_in_flax(name):
  shape = dataclasses.replace(SHAPES[name], depth=2)
  model = network(PlainConvMixer, shape)
  side = shape.image_size
  images = jax.ShapeDtypeStruct((shape.batch_size, side, side, 3), jnp.float32)
  rng = jax.random.key(0)
  variables = jax.eval_shape(lambda x: model.init(rng, x, train=False), images)
  jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
    variables, images
  )
  counted = operations_of_jaxpr(jaxpr.jaxpr)
  assert count_operations(shape)['forward'] == counted


def test_training_operations_leave_out_the_gradient_of_the_image():
  # 2 images of 4 x 4 patches: patches 2 * 32 * 27 * 8, each of two blocks
  # 2 * 32 * 8 * (9 + 8), head 2 * 2 * 8 * 5.
  patches, rest = 13_824, 2 * 8_704 + 160
  assert count_operations(TINY) == {
    'forward': patches + rest,
    'train': 2 * patches + 3 * rest,
  }


def as_plain_flax(params, depth):
  """Arranges this project's parameters as plain Flax names them."""
  flat = traverse_util.flatten_dict(params, sep='/')

  def layer(name, block=None):
    return {
      key.rpartition('/')[2]: value if block is None else value[block]
      for key, value in flat.items()
      if key.startswith(f'{name}/')
    }

  convolutions, norms = [layer('patch_embedding')], [layer('patch_bn')]
  for block in range(depth):
    depthwise = layer('blocks/depthwise', block)
    pointwise = layer('blocks/pointwise', block)
    depthwise['kernel'] = depthwise['kernel'][:, :, None]
    pointwise['kernel'] = pointwise['kernel'][None, None]
    convolutions += [depthwise, pointwise]
    norms += [
      layer('blocks/depthwise_bn', block),
      layer('blocks/pointwise_bn', block),
    ]
  return {
    **{f'Conv_{i}': values for i, values in enumerate(convolutions)},
    **{f'BatchNorm_{i}': values for i, values in enumerate(norms)},
    'Dense_0': layer('head'),
  }


@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_plain_flax_network_has_the_same_logits(activation):
  shape = dataclasses.replace(TINY, activation=activation)
  images = np.random.default_rng(0).normal(size=(2, 12, 12, 3))
  images = jnp.asarray(images, jnp.float32)

  @jax.jit
  def both(images):
    logits = []
    for cls in (ConvMixer, PlainConvMixer):
      model = network(cls, shape)
      variables = model.init(jax.random.key(0), images, train=False)
      if cls is ConvMixer:
        params = variables['params']
      else:
        plain = as_plain_flax(params, shape.depth)
        assert jax.tree.structure(plain) == jax.tree.structure(
          variables['params']
        )
        variables = variables | {'params': plain}
      y, _ = model.apply(variables, images, train=True, mutable=['batch_stats'])
      logits.append(y)
    return logits

  ours, plain = both(images)
  np.testing.assert_allclose(plain, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_pytorch_the_jax_workers_are_measured():
  shape = dataclasses.replace(TINY, depth=1)
  (result,) = model_benchmark.run({'tiny': shape}, rounds=1)
  result = json.loads(json.dumps(result))
  contenders = result['shapes']['tiny']['contenders']
  assert 'pip install timm' in contenders['PyTorch, eager']['missing']
  for name in ('this project', 'plain Flax'):
    assert contenders[name]['train']['images_per_sec'] > 0
    assert contenders[name]['forward']['peak'] > 10
  assert result['matmul'] > 0
  printed = model_benchmark.table(result)
  assert 'pip install timm' in printed
  assert 'better of' not in printed


def test_ratios_are_to_this_project_within_a_round(monkeypatch):
  seconds = {
    'this project': 0.1,
    'PyTorch, eager': 0.3,
    'PyTorch, compile': 0.2,
    'plain Flax': 2.0,
  }
  commands = {name: fake_command(value) for name, value in seconds.items()}
  monkeypatch.setattr(model_benchmark, '_commands', lambda _: commands)
  (result,) = model_benchmark.run({'tiny': TINY}, rounds=2)
  contenders = result['shapes']['tiny']['contenders']
  assert contenders['plain Flax']['train']['ratio'] == pytest.approx([20] * 3)
  eager = contenders['PyTorch, eager']['forward']
  assert eager['ratio'] == pytest.approx([3] * 3)
  assert eager['images_per_sec'] == pytest.approx(2 / 0.3)
  assert eager['seconds'] == pytest.approx({'wall': 0.3, 'cpu': 0.6})
  operations = count_operations(TINY)['forward']
  assert eager['gflops'] == pytest.approx(operations / 0.3 / 1e9)
  assert result['matmul'] == pytest.approx(2 * 2048**3 / 0.1 / 1e9)
  printed = model_benchmark.table(result)
  assert 'time/ours: forward 2.00, train 2.00' in printed


def test_contender_that_fails_is_reported(tmp_path):
  with Contender([str(tmp_path / 'python')], TINY) as contender:
    assert str(tmp_path / 'python') in contender.missing
  silent = [sys.executable, '-c', 'import sys; sys.stdin.readline()']
  with Contender(silent, TINY) as contender:
    assert 'cannot run it' in contender.missing


def test_worker_reports_errors_of_its_library():
  unknown = dataclasses.replace(TINY, activation='tanh')
  command = [sys.executable, '-m', 'convmixer_jax.benchmarks.jax_model_worker']
  with Contender([*command, 'project'], unknown) as contender:
    assert "'tanh' is unknown" in contender.missing


def test_reduced_depth_is_in_the_title():
  shapes = model_benchmark.choose_shapes(['256/8', '768/32'], 4)
  assert [shape.depth for shape in shapes.values()] == [8, 4]
  title = model_benchmark._title('768/32', shapes['768/32'])
  assert title.startswith('768/32 with 4 of its blocks')


def test_unknown_shape_is_refused():
  with pytest.raises(UserError, match="'512/3' is unknown; there are 256/8"):
    model_benchmark.choose_shapes(['512/3'], 4)
