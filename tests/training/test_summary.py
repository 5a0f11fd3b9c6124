"""The first lines of a run."""

import jax
import pytest

from convmixer_jax import models
from convmixer_jax.analysis import flops
from convmixer_jax.training import summary
from convmixer_jax.training.setup import set_up


@pytest.fixture
def setup(config, tmp_path):
  return set_up(config, str(tmp_path / 'run'))


def lines_of(setup, first_step=0):
  rows = summary.describe_start(setup, first_step).splitlines()
  return dict(row.split(maxsplit=1) for row in rows)


def test_first_lines_name_devices_data_network_and_length(
  setup, monkeypatch, tmp_path
):
  monkeypatch.setattr(summary, 'unused_accelerator', lambda: None)
  lines = lines_of(setup)
  assert list(lines) == [
    'Devices',
    'Mesh',
    'Data',
    'Network',
    'Length',
    'Directory',
  ]
  assert lines['Devices'].startswith('1 CPU device (')
  assert lines['Devices'].endswith(f'JAX {jax.__version__}')
  assert lines['Mesh'] == (
    'data 1 x fsdp 1: 64 images an update, 64 on each device'
  )
  assert lines['Data'] == (
    'digits: 1,442 images (train) for training, 355 images (test) held out; '
    '10 classes'
  )
  # Patch embedding, 2 blocks of a depthwise and a pointwise convolution with
  # their norms, head; by hand: 8 x (3 + 1) + 16, 2 x (8 x 9 + 8 + 16 + 8 x 8 +
  # 8 + 16), 8 x 10 + 10.
  assert lines['Network'].startswith('ConvMixer-8/2: 506 parameters, ')
  assert lines['Network'].endswith(' GMACs for 8 x 8 x 3, float32')
  assert lines['Length'] == '22 steps; epochs: 1, each of 22 steps'
  assert lines['Directory'] == f'{tmp_path}/run (new)'


def test_macs_are_those_of_images_of_any_shape(config, tmp_path):
  config.dataset.mean, config.dataset.std = (0.5,) * 5, (0.25,) * 5
  config.dataset.image_size = (8, 16)
  network = models.create_model(config.model, 10)
  expected = flops.count_forward(network, (8, 16), channels=5).total
  text = summary.describe_network(network, config, 7)
  assert text == (
    f'ConvMixer-8/2: 7 parameters, {expected / 1e9:.3g} GMACs for 8 x 16 x 5, '
    'float32'
  )


def test_directory_says_whether_the_run_is_resumed(setup):
  assert lines_of(setup, 3)['Directory'].endswith('(resumed)')
  assert lines_of(setup, 22)['Directory'].endswith('(all steps made)')


def test_unused_accelerator_is_named_first(setup, monkeypatch):
  monkeypatch.setattr(summary, 'unused_accelerator', lambda: 'a GPU is here')
  text = summary.describe_start(setup, 0)
  assert text.splitlines()[0] == 'Warning    a GPU is here'
