"""The network that a command line names."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from convmixer_jax import trained
from convmixer_jax.data.class_names import imagenet_synsets, readable
from convmixer_jax.errors import UserError
from convmixer_jax.runs import load_run
from convmixer_jax.tools import trained as trained_flags

flags.FLAGS.mark_as_parsed()


def test_a_run(trained_run):
  with flagsaver.flagsaver(workdir=str(trained_run), step='32'):
    network = trained_flags.from_flags()
  run = load_run(trained_run)
  model, variables = run.restore(32)
  assert network.model == model
  head = variables['params']['head']['kernel']
  np.testing.assert_array_equal(
    network.variables['params']['head']['kernel'], head
  )
  assert network.name == f'ConvMixer-16/2 of {trained_run}, step 32'
  assert (network.image_size, network.eval_crop_fraction) == (8, 1.0)
  assert (network.mean, network.std) == ((0.5,) * 3, (0.25,) * 3)
  assert network.labels() == list('0123456789')
  assert network.dataset == run.config.dataset


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({}, 'says what network to take; neither is given'),
    ({'workdir': 'a', 'weights': 'b'}, 'says .* to take; both are given'),
    ({'workdir': 'a', 'model': '768_32'}, '--model=768_32 is for --weights'),
    ({'weights': 'a', 'step': 'best'}, '--step=best is for --workdir'),
    ({'workdir': 'a', 'step': 'last'}, "--step=last is neither .* nor 'best'"),
    ({'workdir': '/nowhere'}, '/nowhere is no directory of a run'),
  ],
)
def test_wrong_flags(values, message):
  with flagsaver.flagsaver(**values), pytest.raises(UserError, match=message):
    trained_flags.from_flags()


def test_a_batch_is_rounded_up_to_what_the_devices_divide(
  trained_run, monkeypatch
):
  network = trained.from_run(str(trained_run))
  assert network.eval_config(10).batch_size == 10
  monkeypatch.setattr(trained.jax, 'device_count', lambda: 4)
  assert network.eval_config(10).batch_size == 12


def test_imagenets_classes_have_names():
  synsets = imagenet_synsets()
  names = readable(synsets)
  assert len(set(synsets)) == len(set(names)) == 1000
  for synset, name in {
    'n01440764': 'tench',
    'n02102040': 'English springer',
    'n03888257': 'parachute',
    'n03710637': 'maillot',
    'n03710721': 'maillot, tank suit',
    'n15075141': 'toilet tissue',
  }.items():
    assert names[synsets.index(synset)] == name
  assert readable(['n01440764', 'n00000001']) == ['tench', 'n00000001']
  assert readable(['n01440764', 'cat']) == ['n01440764', 'cat']
