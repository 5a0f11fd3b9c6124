"""The plan of a run: batches, figures, refusals, and the command."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import commands
import jax
import numpy as np
import pytest
from jax.experimental.pallas import tpu

from configs import default, imagenet
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS, ConvMixer
from convmixer_jax.models.convmixer.macs import count_layers
from convmixer_jax.planning import (
  build,
  compilation,
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
from convmixer_jax.training.batch_size import (
  check_batch_size,
  least_per_device,
)

ROOT = pathlib.Path(__file__).parents[2]


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


def test_plan_has_the_batch_of_the_config_and_the_largest(plan_of):
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


def test_indivisible_batch_is_replaced_with_a_note(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 100
  plan = plan_of(config, search=False)
  (note,) = plan['notes']
  assert 'batch_size = 100 does not divide' in note
  assert note.endswith('planned for 512')
  assert plan['steps'][0]['batch_size'] == 512


def test_groups_that_straddle_chips_are_noted(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 8 * 40  # 5 groups of 64
  (note,) = plan_of(config, search=False)['notes']
  assert '40 images a chip are not a multiple of 64' in note
  config.batch_size = 8 * 64
  assert plan_of(config, search=False)['notes'] == []


def test_batch_that_does_not_fit_is_reported(plan_of):
  config = imagenet.get_config('768_32')
  config.batch_size = 8 * 128
  config.mixup.group_size = 128
  plan = plan_of(config)
  assert plan['steps'] == []
  text = report.table(plan | {'config': 'C', 'topology': 'v5p:2x2x2'})
  assert '128 images a chip do not fit: they need 101.00 GiB' in text
  assert 'No batch fits' in text


@pytest.mark.parametrize(
  ('name', 'kind'), [('cpu', 'CPU'), ('cuda', 'NVIDIA GPU')]
)
def test_kernels_for_others_are_refused(plan_of, name, kind):
  config = imagenet.get_config('768_32')
  config.model.depthwise = name
  text = f'is for {kind}s; leave it out for what TPU v5p uses'
  with pytest.raises(UserError, match=text):
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
def test_each_chip_gets_whole_groups(changes, images):
  config = imagenet.get_config()
  config.update_from_flattened_dict(changes)
  assert least_per_device(config) == images
  config.batch_size = 10 * images
  check_batch_size(config, 10)


def test_operations_equal_the_closed_form():
  config = imagenet.get_config('1024_20')
  matrix, depthwise = report.count_by_unit(config, 64, 1000)
  layers = count_layers(ConvMixer(1024, 20, 14, 9), 224)
  patches, *others = (2 * 64 * layer.macs for layer in layers)
  # The gradient of the images is not needed.
  assert matrix + depthwise == 2 * patches + 3 * sum(others)
  assert depthwise == 3 * 20 * (2 * 64 * 16**2 * 1024 * 9**2)


@pytest.mark.parametrize(
  'topology', ['v5e', 'v5e:4', 'v5p:4x4', 'v9:2x2', 'h100:x8', 'v5e:0x4', '']
)
def test_unknown_topology_is_refused_with_the_list(topology):
  with pytest.raises(UserError, match='v5e: 2x2, 2x4') as error:
    parse_topology(topology)
  assert '\n' not in str(error.value)


def test_tpu_figures_agree_with_jax():
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
def test_missing_compiler_is_reported_with_the_command_to_install_it(
  topology, message, monkeypatch
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(UserError, match=message):
    topologies.describe_devices(topology, *parse_topology(topology))


def test_size_of_data_that_are_not_prepared():
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
def test_plan_for_tpu_without_a_tpu():
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


# Fields of networks of other ones than width and depth.
LARGE = {'resnet': {'depths': (4, 1, 1, 1), 'widths': (1024, 16, 16, 16)}}


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed'
)
@pytest.mark.parametrize(
  ('name', 'fields'),
  [(name, LARGE.get(name, {'width': 1024, 'depth': 8})) for name in MODELS],
)
def test_fsdp_takes_less_memory_than_data_alone(name, fields):
  def needed(fsdp):
    found = plan(
      *('v5e:2x4', '--nosearch', f'--config.model.name={name}'),
      *(f'--config.model.{key}={value}' for key, value in fields.items()),
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
def test_plan_for_gpu_without_a_gpu():
  found = plan('h100:1x2', '--nosearch')
  assert found.returncode == 0, found.stderr
  assert '2 x NVIDIA H100' in found.stdout
  assert 'all-reduce f32' in found.stdout


FLAGS = (
  *('--config=configs/digits.py', '--config.model.width=8'),
  *('--config.model.scan=True', '--config.batch_size=16'),
  '--config.augment.flip=0.5',
)


def plan(topology, *flags):
  """Runs the command; not in a fork, where the CPU's compiler is chosen."""
  command = sys.executable, '-m', 'convmixer_jax', 'plan'
  return subprocess.run(
    [*command, *FLAGS, f'--topology={topology}', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_command_refuses_an_unknown_topology_in_one_line():
  command = 'convmixer_jax', 'plan'
  found = commands.run([*command, *FLAGS, '--topology=v9:2x2'])
  assert found.returncode == 1
  assert found.stdout == ''
  (line,) = found.stderr.splitlines()
  assert line.startswith('error: --topology=v9:2x2 is unknown; there are v4:')


def test_gpu_target_config_names_the_gpu():
  text = gpu_target_config(CHIPS['h100'])
  assert text.count('{') == text.count('}')
  assert 'NVIDIA H100' in text
