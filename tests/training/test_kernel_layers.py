"""Which layers the kernels for GPUs do not compute, without a GPU."""

import types

import jax
import pytest
from absl import logging

from convmixer_jax.kernels import dispatch, named_layers
from convmixer_jax.kernels.gpu import compiler, library
from convmixer_jax.models import model_config
from convmixer_jax.training import kernel_layers
from convmixer_jax.training.trainer import create_trainer

# Tests replace it.
library_unavailable = library.unavailable


@pytest.fixture
def messages(monkeypatch):
  """What is logged in a process with a GPU, as far as is asked."""
  found = []
  gpu = types.SimpleNamespace(
    platform='gpu', compute_capability='9.0', local_hardware_id=0
  )
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: found.append(text % args)
  )
  monkeypatch.setattr(named_layers, '_noted', set())
  monkeypatch.setattr(jax, 'local_devices', lambda *_: [gpu])
  monkeypatch.setattr(library, 'unavailable', lambda instance: None)
  dispatch._warn.cache_clear()
  yield found
  dispatch._warn.cache_clear()


def warn(config, monkeypatch):
  mesh = jax.make_mesh((1, 1), ('data', 'fsdp'))
  trainer = create_trainer(config, mesh, num_classes=10, steps_per_epoch=5)
  with monkeypatch.context() as patch:
    patch.setattr(jax, 'default_backend', lambda: 'gpu')
    kernel_layers.warn_of_layers_without_kernels(trainer, config)
    # What was said of layers is not said again.
    kernel_layers.find_layers_without_kernels(trainer, config)


@pytest.mark.parametrize('group_size', [0, 8])
@pytest.mark.parametrize('frozen', [True, False])
def test_stacked_blocks_are_named_with_the_reason(
  config, messages, monkeypatch, group_size, frozen
):
  config.dtype, config.model.bn_group_size = 'bfloat16', group_size
  config.backbone_lr_scale = 1.0 - frozen
  warn(config, monkeypatch)
  (message,) = messages
  assert message.startswith(
    'the cuda kernels do not compute blocks/depthwise (all 2 blocks): 8 '
    'channels are not a multiple of 16. XLA computes there'
  )


def test_float32_is_the_reason_where_it_is(config, messages, monkeypatch):
  config.model.width = 16
  warn(config, monkeypatch)
  (message,) = messages
  assert 'blocks/depthwise (all 2 blocks): images are float32, and' in message


def test_nothing_is_said_where_the_kernels_compute(
  config, messages, monkeypatch
):
  config.model.width, config.dtype = 16, 'bfloat16'
  warn(config, monkeypatch)
  assert messages == []


def test_missing_compiler_is_one_line_that_says_how_to_get_it(
  config, messages, monkeypatch
):
  config.model.width, config.dtype = 16, 'bfloat16'
  monkeypatch.setattr(library, 'unavailable', library_unavailable)
  monkeypatch.setattr(library, '_handler_or_reason', lambda: (object(), None))
  monkeypatch.setattr(compiler, 'find_compiler', lambda: None)
  library._unavailable_here.cache_clear()
  warn(config, monkeypatch)
  library._unavailable_here.cache_clear()
  (message,) = messages
  assert 'blocks/depthwise (all 2 blocks): there is no compiler' in message
  assert "pip install 'jax[cuda13]'" in message


def test_networks_without_depthwise_layers_have_nothing_to_say(
  config, messages, monkeypatch
):
  config.model = model_config('resmlp', width=16, depth=2, patch_size=2)
  warn(config, monkeypatch)
  assert messages == []


def test_layers_that_differ_in_a_number_are_described_together():
  names = ['stem', *(f'blocks_{n}/depthwise' for n in range(8)), '']
  assert kernel_layers.describe_layers(names, {'stem': 3}) == (
    'stem (all 3 blocks), blocks_0/depthwise to blocks_7/depthwise (8 layers), '
    'a layer without a name'
  )


def test_innermost_layer_with_a_name_counts(monkeypatch):
  monkeypatch.setattr(named_layers, '_noted', set())
  with named_layers.collect() as found:
    with named_layers.in_layer('outer'), named_layers.in_layer(''):
      assert named_layers.note('cuda', 'why')
    with named_layers.in_layer('outer/inner'):
      named_layers.note('cuda', 'why')
      named_layers.note('cuda', 'why')
  assert found == {('cuda', 'why'): ['outer', 'outer/inner']}
  assert named_layers.note('cuda', 'why')
  assert not named_layers.note('cuda', 'another reason')
