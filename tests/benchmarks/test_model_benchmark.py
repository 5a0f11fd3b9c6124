"""The benchmark of networks: FLOPs, processes, results and table."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convmixer_jax.benchmarks import model as model_benchmark
from convmixer_jax.benchmarks import model_report
from convmixer_jax.benchmarks.benchmark_cases import (
  CASES,
  count_flops,
  create_convmixer_case,
)
from convmixer_jax.benchmarks.benchmark_process import BenchmarkProcess
from convmixer_jax.benchmarks.plain_flax import PlainConvMixer
from convmixer_jax.errors import UserError
from convmixer_jax.models import DTYPES, ConvMixer

TINY = create_convmixer_case(
  8, 2, 3, 3, num_classes=5, image_size=12, batch_size=2
)

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


def network(cls, case):
  return cls(
    **case.fields, num_classes=case.num_classes, dtype=DTYPES[case.dtype]
  )


def with_fields(case, **fields):
  return dataclasses.replace(case, fields={**case.fields, **fields})


def fake_command(seconds):
  text = FAKE_WORKER.replace('SECONDS', str(seconds))
  return [sys.executable, '-c', text]


def count_flops_of_jaxpr(jaxpr):
  """Counts FLOPs in a traced program, by the shapes of each product."""
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


@pytest.mark.parametrize('name', CASES)
def test_flops_equal_those_of_plain_flax(name):
  case = with_fields(CASES[name], depth=2)
  model = network(PlainConvMixer, case)
  side = case.image_size
  images = jax.ShapeDtypeStruct((case.batch_size, side, side, 3), jnp.float32)
  rng = jax.random.key(0)
  variables = jax.eval_shape(lambda x: model.init(rng, x, train=False), images)
  jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
    variables, images
  )
  counted = count_flops_of_jaxpr(jaxpr.jaxpr)
  assert count_flops(case)['forward'] == counted


def test_flops_of_training_exclude_the_gradient_of_the_image():
  # 2 images of 4 x 4 patches: patches 2 * 32 * 27 * 8, each of two blocks
  # 2 * 32 * 8 * (9 + 8), head 2 * 2 * 8 * 5.
  patches, rest = 13_824, 2 * 8_704 + 160
  assert count_flops(TINY) == {
    'forward': patches + rest,
    'train': 2 * patches + 3 * rest,
  }


def as_plain_flax(params, depth):
  """Converts this project's parameters to the names of plain Flax."""
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


@pytest.mark.slow
@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_plain_flax_network_has_the_same_logits(activation):
  case = with_fields(TINY, activation=activation)
  images = np.random.default_rng(0).normal(size=(2, 12, 12, 3))
  images = jnp.asarray(images, jnp.float32)

  @jax.jit
  def both(images):
    logits = []
    for cls in (ConvMixer, PlainConvMixer):
      model = network(cls, case)
      variables = model.init(jax.random.key(0), images, train=False)
      if cls is ConvMixer:
        params = variables['params']
      else:
        plain = as_plain_flax(params, case.fields['depth'])
        assert jax.tree.structure(plain) == jax.tree.structure(
          variables['params']
        )
        variables = variables | {'params': plain}
      y, _ = model.apply(variables, images, train=True, mutable=['batch_stats'])
      logits.append(y)
    return logits

  ours, plain = both(images)
  np.testing.assert_allclose(plain, ours, rtol=1e-4, atol=1e-5)


def test_loop_of_plain_flax_has_the_logits_of_its_blocks():
  images = np.random.default_rng(0).normal(size=(2, 12, 12, 3))
  fields = {**TINY.fields, 'depth': 3}
  loop = PlainConvMixer(**fields, num_classes=5, loop=True)
  blocks = PlainConvMixer(**fields, num_classes=5)

  @jax.jit
  def both(images):
    stacked = loop.init(jax.random.key(0), images, train=False)
    flat = traverse_util.flatten_dict(stacked, sep='/')
    separate = {}
    for name, value in flat.items():
      if '/Scan_Block_0/' not in name:
        separate[name] = value
        continue
      before, after = name.split('/Scan_Block_0/')
      layer, _, number = after.partition('/')[0].rpartition('_')
      for block in range(3):
        # The first layer of its kind is that of the patches.
        own = f'{layer}_{1 + 2 * block + int(number)}'
        leaf = after.rpartition('/')[2]
        separate[f'{before}/{own}/{leaf}'] = value[block]
    variables = traverse_util.unflatten_dict(separate, sep='/')
    return [
      network.apply(values, images, train=True, mutable=['batch_stats'])[0]
      for network, values in ((loop, stacked), (blocks, variables))
    ]

  stacked, separate = both(jnp.asarray(images, jnp.float32))
  np.testing.assert_allclose(stacked, separate, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_pytorch_the_jax_workers_are_measured():
  case = with_fields(TINY, depth=1)
  (result,) = model_benchmark.run({'tiny': case}, rounds=1)
  result = json.loads(json.dumps(result))
  frameworks = result['cases']['tiny']['frameworks']
  assert 'pip install timm' in frameworks['PyTorch, eager']['missing']
  for name in ('this project', 'plain Flax'):
    assert frameworks[name]['train']['images_per_sec'] > 0
    assert frameworks[name]['forward']['peak'] > 10
  assert result['matmul'] > 0
  printed = model_report.table(result)
  assert 'pip install timm' in printed
  profile = result['cases']['tiny']['profile']
  if jax.default_backend() == 'cpu':
    for kind, found in profile.items():
      total = sum(values['seconds'] for values in found.values())
      assert total > 0
      assert found['products']['seconds'] > 0, kind
      assert f'{kind}, this project' in printed
    assert profile['train']['optimizer']['bytes'] > 0
  assert 'faster of' not in printed


def test_ratios_compare_with_this_project_within_a_round(monkeypatch):
  seconds = {
    'this project': 0.1,
    'PyTorch, eager': 0.3,
    'PyTorch, compile': 0.2,
    'plain Flax': 2.0,
  }
  commands = {name: fake_command(value) for name, value in seconds.items()}
  monkeypatch.setattr(model_benchmark, '_commands', lambda *_: commands)
  (result,) = model_benchmark.run({'tiny': TINY}, rounds=2)
  frameworks = result['cases']['tiny']['frameworks']
  assert frameworks['plain Flax']['train']['ratio'] == pytest.approx([20] * 3)
  eager = frameworks['PyTorch, eager']['forward']
  assert eager['ratio'] == pytest.approx([3] * 3)
  assert eager['images_per_sec'] == pytest.approx(2 / 0.3)
  assert eager['seconds'] == pytest.approx({'wall': 0.3, 'cpu': 0.6})
  flops = count_flops(TINY)['forward']
  assert eager['gflops'] == pytest.approx(flops / 0.3 / 1e9)
  assert result['matmul'] == pytest.approx(2 * 2048**3 / 0.1 / 1e9)
  printed = model_report.table(result)
  assert 'time/ours: forward 2.00, train 2.00' in printed


def test_process_that_fails_has_the_reason(tmp_path):
  with BenchmarkProcess([str(tmp_path / 'python')], TINY) as process:
    assert str(tmp_path / 'python') in process.missing
  silent = [sys.executable, '-c', 'import sys; sys.stdin.readline()']
  with BenchmarkProcess(silent, TINY) as process:
    assert 'cannot run it' in process.missing


def test_worker_reports_errors_of_its_library():
  invalid = with_fields(TINY, width=0)
  command = [sys.executable, '-m', 'convmixer_jax.benchmarks.jax_model_worker']
  with BenchmarkProcess([*command, 'project'], invalid) as process:
    assert 'config.model.width = 0' in process.missing


def test_reduced_depth_is_in_the_title():
  cases = model_benchmark.choose_cases(['256/8', '768/32'], 4)
  assert [case.fields['depth'] for case in cases.values()] == [8, 4]
  title = model_report._title('768/32', cases['768/32'])
  assert title.startswith('768/32 with 4 of its blocks')


def test_unknown_case_is_refused():
  with pytest.raises(UserError, match="'512/3' is unknown; valid are 256/8"):
    model_benchmark.choose_cases(['512/3'], 4)
