"""The plan of a run: what it reads from compiled programs, and what follows."""

import importlib.util
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import plan_process
import pytest
from jax.experimental.pallas import tpu

from configs import default, imagenet
from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase, count_flops
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS
from convmixer_jax.planning import (
  build,
  compilation,
  hlo,
  hlo_costs,
  report,
  topologies,
)
from convmixer_jax.planning.chips import (
  CHIPS,
  gpu_target_config,
  parse_topology,
)
from convmixer_jax.planning.data import data_size
from convmixer_jax.planning.search import largest_that_fits
from convmixer_jax.training.batch_size import (
  check_batch_size,
  least_per_device,
)
from convmixer_jax.training.trainer import create_trainer

ROOT = pathlib.Path(__file__).parents[2]

# In XLA:TPU's manner: no trip counts, VMEM as S(1), a loop that reads slices.
TPU_PROGRAM = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%read_a_slice (all: bf16[4,8,16], place: s32[]) -> bf16[8,16] {
  %all = bf16[4,8,16]{2,1,0:T(8,128)(2,1)} parameter(0)
  %place = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %one = bf16[1,8,16]{2,1,0:T(8,128)} dynamic-slice(%all, %place, %zero, %zero)
  ROOT %flat = bf16[8,16]{1,0:T(8,128)} bitcast(%one)
}

%scatter (gradient: f32[128]) -> f32[32] {
  %gradient = f32[128]{0} parameter(0)
  %reduced = f32[128]{0} all-reduce(%gradient), to_apply=%add
  %start = s32[] constant(0)
  ROOT %own = f32[32]{0} dynamic-slice(%reduced, %start)
}

%body (carry: (s32[], bf16[4,8,16])) -> (s32[], bf16[4,8,16]) {
  %carry = (s32[]{:T(128)}, /*index=1*/bf16[4,8,16]{2,1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %stack = bf16[4,8,16]{2,1,0} get-tuple-element(%carry), index=1
  %slice = bf16[8,16]{1,0:S(1)} fusion(%stack, %turn), kind=kLoop, \
calls=%read_a_slice
  %gathered = bf16[16,16]{1,0:S(1)} all-gather(%slice), dimensions={0}
  ROOT %next = (s32[]{:T(128)}, bf16[4,8,16]{2,1,0}) tuple(%turn, %stack)
}

%condition (carry: (s32[], bf16[4,8,16])) -> pred[] {
  %carry = (s32[]{:T(128)}, bf16[4,8,16]{2,1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %length = s32[]{:T(128)} constant(4)
  ROOT %less = pred[]{:T(512)} compare(%turn, %length), direction=LT
}

ENTRY %main (stack: bf16[4,8,16], gradient: f32[128]) -> f32[32] {
  %stack = bf16[4,8,16]{2,1,0} parameter(0)
  %gradient = f32[128]{0} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %start = (f32[128]{0:S(1)}, f32[128]{0}, u32[]{:S(2)}) copy-start(%gradient)
  %near = f32[128]{0:S(1)} copy-done(%start)
  %initial = (s32[], bf16[4,8,16]{2,1,0}) tuple(%zero, %stack)
  %loop = (s32[], bf16[4,8,16]{2,1,0}) while(%initial), \
condition=%condition, body=%body
  ROOT %result = f32[32]{0} fusion(%near), kind=kCustom, \
calls=%all-reduce-scatter
}
""".replace('%scatter', '%all-reduce-scatter')


def test_a_program_of_a_tpu_is_read():
  module = hlo.parse(TPU_PROGRAM)
  assert module.executions['body'] == 4
  assert module.fused == {'read_a_slice', 'all-reduce-scatter'}
  assert hlo_costs.collectives(module) == [
    hlo_costs.Collective('all-gather', 'bf16', 4, 4 * 16 * 16 * 2),
    hlo_costs.Collective('reduce-scatter', 'f32', 1, 128 * 4),
  ]
  # The copy to VMEM; four slices in the loop, their places and the comparison
  # of the counter; the result.
  expected = 128 * 4 + 4 * (8 * 16 * 2 + 4 + 4 + 4 + 1) + 32 * 4
  assert hlo_costs.memory_traffic(module) == expected


def test_a_gather_that_several_fusions_share_counts_once():
  line = (
    '  %gathered = bf16[16,16]{1,0:S(1)} all-gather(%slice), channel_id=2, '
    'dimensions={0}, frontend_attributes={chain_id="0"}'
  )
  shared = re.sub(
    '  %gathered = .*',
    f'{line}\n{line.replace("gathered", "gathered.1")}',
    TPU_PROGRAM,
  )
  assert shared.count('all-gather(') == 2
  assert hlo_costs.collectives(hlo.parse(shared)) == hlo_costs.collectives(
    hlo.parse(TPU_PROGRAM)
  )


def test_a_loop_of_unknown_length_counts_once():
  unclear = TPU_PROGRAM.replace('direction=LT', 'direction=NE')
  assert hlo.parse(unclear).executions['body'] == 1


def test_traffic_of_a_program_without_loops_is_what_xla_counts():
  def step(x, kernel):
    return (jax.nn.relu(x @ kernel) @ kernel.T).sum(0)

  compiled = jax.jit(step).lower(np.ones((64, 32)), np.ones((32, 48))).compile()
  traffic = hlo_costs.memory_traffic(hlo.parse(compiled.as_text()))
  counted = compiled.cost_analysis()['bytes accessed']
  np.testing.assert_allclose(traffic, counted, rtol=0.02)


def test_a_scan_is_counted_as_often_as_it_turns():
  def step(x):
    return jax.lax.scan(lambda x, _: (jax.numpy.sin(x @ x), None), x, length=7)

  compiled = jax.jit(step).lower(np.ones((32, 32), np.float32)).compile()
  module = hlo.parse(compiled.as_text())
  assert 7 in module.executions.values()
  assert hlo_costs.memory_traffic(module) >= 7 * 2 * 32 * 32 * 4


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
  """The step of a network on 8 devices, compiled for each layout."""
  out = tmp_path_factory.mktemp('plan') / 'steps.json'
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': (
      '--xla_force_host_platform_device_count=8 '
      '--xla_backend_optimization_level=0'
    ),
  }
  command = [sys.executable, ROOT / 'tests' / 'plan_process.py', out]
  subprocess.run(command, env=environment, check=True, timeout=600)
  return json.loads(out.read_text())


def state_of(layout):
  config = plan_process.config_of(layout)
  mesh = sharding.create_mesh(default.get_config().mesh)
  return create_trainer(
    config, mesh, num_classes=plan_process.NUM_CLASSES, steps_per_epoch=10
  ).state


def num_bytes(tree):
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_memory_of_the_state_is_counted_exactly(steps):
  state = state_of('unrolled')
  memory = steps['unrolled']['memory']
  assert memory['parameters'] == num_bytes(state.params)
  assert memory['BatchNorm statistics'] == num_bytes(state.batch_stats)
  assert memory['optimizer'] == num_bytes(state.opt_state)
  images, labels, step = 8 * 8 * 8 * 3, 8 * 4, 4
  assert memory['batch, padding'] == images + labels + step
  assert memory['activations, temporaries'] > 8 * 8 * 8 * 128 * 4


@pytest.mark.slow
def test_fsdp_halves_the_large_kernels(steps):
  kernels = 2 * 128 * 128 * 4  # [depth, width, width], float32
  whole, split = steps['unrolled']['memory'], steps['fsdp']['memory']
  assert whole['parameters'] - split['parameters'] == kernels / 2
  assert whole['optimizer'] - split['optimizer'] == 2 * kernels / 2
  kinds = {found['kind'] for found in steps['fsdp']['collectives']}
  assert 'all-gather' in kinds


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['unrolled', 'scan'])
def test_a_step_reduces_gradients_statistics_and_metrics(steps, layout):
  state = state_of(layout)
  (found,) = (
    each
    for each in steps[layout]['collectives']
    if each['kind'] == 'all-reduce'
  )
  assert found['dtype'] == 'f32'
  loss_and_accuracy = 2 * 4
  assert found['num_bytes'] == loss_and_accuracy + num_bytes(
    (state.params, state.batch_stats)
  )


def linear(capacity, per_image, fixed=0.0, told=True):
  """A `measure` that remembers what it was asked."""
  asked = []

  def measure(batch):
    asked.append(batch)
    needed = fixed + per_image * batch
    fits = needed <= capacity
    return fits, needed if fits or told else math.inf

  return measure, asked


@pytest.mark.parametrize('told', [True, False])
@pytest.mark.parametrize('per_image', [0.02, 0.1, 0.24, 0.9])
@pytest.mark.parametrize('start', [64, 640])
def test_search_finds_the_largest_of_groups(per_image, start, told):
  measure, asked = linear(100, per_image, fixed=3, told=told)
  fits, too_large = largest_that_fits(
    measure, start=start, unit=64, most=6400, capacity=100
  )
  assert fits % 64 == 0
  assert not fits or measure(fits)[0]
  if too_large is None:
    assert fits == 6400 or 6400 - fits <= fits // 16
  else:
    assert not measure(too_large)[0]
    assert too_large - fits <= max(64, fits // 16)
  assert len(asked) <= (8 if told else 12)


def test_search_may_find_nothing():
  measure, asked = linear(1, 1)
  assert largest_that_fits(
    measure, start=64, unit=64, most=6400, capacity=1
  ) == (0, 64)
  assert asked == [64]


@pytest.fixture
def plan_of(monkeypatch):
  """Makes plans for 8 chips on which an image takes 1 GiB."""

  def compile_step(config, devices, **_):
    per_chip = config.batch_size // len(devices)
    if per_chip > 100:
      raise compilation.OutOfMemoryError('temporaries (101G) exceeds (100G)')
    return compilation.CompiledStep(
      batch_size=config.batch_size,
      memory={'parameters': 2**30, 'activations': per_chip * 2**30},
      memory_traffic=per_chip * 10**9,
      collectives=[hlo_costs.Collective('all-reduce', 'f32', 3, 4 * 10**6)],
      xla_flops=None,
      compile_seconds=1.0,
    )

  mesh = jax.sharding.AbstractMesh((8, 1), ('data', 'fsdp'))
  monkeypatch.setattr(sharding, 'create_mesh', lambda *_: mesh)
  monkeypatch.setattr(compilation, 'compile_step', compile_step)

  def make(config, **options):
    return build.make_plan(
      config,
      CHIPS['v5p'],
      range(8),
      num_examples=1_281_167,
      num_classes=1000,
      **options,
    )

  return make


def test_a_plan_has_the_batch_of_the_config_and_the_largest(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 512
  config.mixup.group_size = config.model.bn_group_size = 16
  plan = plan_of(config)
  first, largest = plan['steps']
  assert (first['images_per_chip'], largest['images_per_chip']) == (64, 80)
  assert '80 images a chip; 96 do not fit' in plan['largest']
  assert first['num_steps'] == 300 * (1_281_167 // 512)
  seconds = 64e9 / CHIPS['v5p'].bandwidth
  assert first['bound_seconds'] == first['traffic_seconds'] == seconds
  hours = first['num_steps'] * seconds / 3600
  np.testing.assert_allclose(first['chip_hours'], 8 * hours)
  text = report.table(plan | {'config': 'C', 'topology': 'v5p:2x2x2'})
  assert 'all-reduce f32' in text and '4 MB in 3' in text
  assert 'not a measurement' in text
  assert json.loads(json.dumps(plan)) == plan


def test_a_batch_that_does_not_divide_is_replaced_and_said(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 100
  plan = plan_of(config, search=False)
  (note,) = plan['notes']
  assert 'batch_size = 100 does not divide' in note
  assert note.endswith('planned for 512')
  assert plan['steps'][0]['batch_size'] == 512


def test_what_does_not_fit_is_said(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 8 * 128
  config.mixup.group_size = 128
  plan = plan_of(config)
  assert plan['steps'] == []
  text = report.table(plan | {'config': 'C', 'topology': 'v5p:2x2x2'})
  assert '128 images a chip do not fit: they need 101.00 GiB' in text
  assert 'No batch fits' in text


def test_kernels_for_cpus_are_refused(plan_of):
  config = imagenet.get_config('768_32')
  config.model.depthwise = 'cpu'
  with pytest.raises(UserError, match='leave it out for what TPU v5p uses'):
    plan_of(config)


@pytest.mark.parametrize(
  ('changes', 'images'),
  [
    ({}, 64),
    ({'accum_steps': 3}, 192),
    ({'mixup.group_size': 96}, 192),
    ({'mixup.mixup_alpha': 0.0, 'mixup.cutmix_alpha': 0.0}, 64),
    ({'model.bn_group_size': 0}, 64),
    ({'model.bn_group_size': 0, 'mixup.group_size': 0}, 1),
  ],
)
def test_a_chip_gets_whole_groups(changes, images):
  config = imagenet.get_config()
  config.update_from_flattened_dict(changes)
  assert least_per_device(config) == images
  config.batch_size = 10 * images
  check_batch_size(config, 10)


def test_operations_are_those_of_the_benchmark():
  config = imagenet.get_config('1024_20')
  matrix, depthwise = report.count_by_unit(config, 64, 1000)
  case = BenchmarkCase(1024, 20, 14, 9, batch_size=64)
  assert matrix + depthwise == count_flops(case)['train']
  assert depthwise == 3 * 20 * (2 * 64 * 16**2 * 1024 * 9**2)


@pytest.mark.parametrize(
  'topology', ['v5e', 'v5e:4', 'v5p:4x4', 'v9:2x2', 'h100:x8', 'v5e:0x4', '']
)
def test_an_unknown_topology_is_refused_with_those_there_are(topology):
  with pytest.raises(UserError, match='v5e: 2x2, 2x4') as error:
    parse_topology(topology)
  assert '\n' not in str(error.value)


def test_tpus_have_what_jax_says_of_them():
  for version in tpu.ChipVersion:
    if version.value in CHIPS:
      chip = CHIPS[version.value]
      cores = version.num_physical_tensor_cores_per_chip
      info = tpu.get_tpu_info_for_chip(version, 1)  # of one core
      assert chip.flops == pytest.approx(
        cores * info.bf16_ops_per_second, rel=0.02
      )
      assert chip.bandwidth == pytest.approx(
        cores * info.mem_bw_bytes_per_second, rel=0.13
      )
      assert chip.memory == pytest.approx(
        cores * info.hbm_capacity_bytes, rel=0.05
      )


@pytest.mark.parametrize(
  ('topology', 'message'),
  [
    ('v5e:2x2', r"libtpu; on any Linux machine: pip install 'jax\[tpu\]'"),
    ('h100:1x8', 'pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt'),
  ],
)
def test_a_missing_compiler_is_named_with_its_command(
  topology, message, monkeypatch
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match=message):
    topologies.describe_devices(topology, *parse_topology(topology))


def test_data_that_are_not_there():
  config = imagenet.get_config().dataset
  assert data_size(config) == (1_281_167, 1000)
  assert data_size(config, num_classes=7) == (1_281_167, 7)
  assert data_size(default.get_config().dataset) == (1442, 10)
  config.name, config.data_dir = 'tf_flowers', '/nowhere'
  assert data_size(config, 3000, 5) == (3000, 5)
  with pytest.raises(UserError, match='give --num_examples and --num_classes'):
    data_size(config)


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed'
)
def test_a_tpu_that_is_not_there():
  found = plan('v5e:2x2', '--nosearch')
  assert found.returncode == 0, found.stderr
  assert '4 x TPU v5e' in found.stdout
  assert 'all-reduce f32' in found.stdout


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed'
)
def test_fsdp_gathers_parameters_and_scatters_gradients():
  """On CPUs, XLA reduces gradients whole and then slices them."""
  fsdp = '--config.mesh.fsdp=8', '--config.model.width=512'
  found = plan('v5e:2x4', '--nosearch', '--config.model.depth=2', *fsdp)
  assert found.returncode == 0, found.stderr
  assert 'all-gather bf16' in found.stdout  # as the products take them
  assert 'reduce-scatter f32' in found.stdout
  assert 'all-to-all' not in found.stdout  # activations stay where they are


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed'
)
@pytest.mark.parametrize('name', MODELS)
def test_fsdp_takes_less_memory_than_data_alone(name):
  def needed(fsdp):
    found = plan(
      *('v5e:2x4', '--nosearch', f'--config.model.name={name}'),
      *('--config.model.width=1024', '--config.model.depth=8'),
      f'--config.mesh.fsdp={fsdp}',
    )
    assert found.returncode == 0, found.stderr
    (total,) = re.findall(r'  in all +([\d.]+)', found.stdout)
    return float(total)

  assert needed(8) < needed(1) / 2


@pytest.mark.slow
@pytest.mark.skipif(
  not topologies.has_cuda_plugin(), reason='no CUDA plugin is installed'
)
def test_a_gpu_that_is_not_there():
  found = plan('h100:1x2', '--nosearch')
  assert found.returncode == 0, found.stderr
  assert '2 x NVIDIA H100' in found.stdout
  assert 'all-reduce f32' in found.stdout


def plan(topology, *flags):
  return subprocess.run(
    [
      *(sys.executable, '-m', 'convmixer_jax', 'plan'),
      *('--config=configs/digits.py', f'--topology={topology}'),
      *('--config.model.width=8', '--config.model.scan=True'),
      *('--config.batch_size=16', '--config.augment.flip=0.5', *flags),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=900,
  )


def test_the_command_says_what_is_wrong_in_a_line():
  found = plan('v9:2x2')
  assert found.returncode == 1
  assert found.stdout == ''
  (line,) = found.stderr.splitlines()
  assert line.startswith('error: --topology=v9:2x2 is unknown; there are v4:')


def test_target_of_a_gpu_names_it():
  text = gpu_target_config(CHIPS['h100'])
  assert text.count('{') == text.count('}')
  assert 'NVIDIA H100' in text
