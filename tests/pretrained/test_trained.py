"""The network that a command line names."""

import dataclasses

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from convmixer_jax.cli import source_flags as trained_flags
from convmixer_jax.data.class_names import (
  are_imagenets,
  imagenet_synsets,
  readable,
)
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained import trained
from convmixer_jax.pretrained.runs import load_run

flags.FLAGS.mark_as_parsed()


def test_run_is_loaded_by_its_flags(trained_run):
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
    ({'workdir': '/nowhere'}, '/nowhere is not a run directory'),
  ],
)
def test_contradicting_flags_are_refused(values, message):
  with flagsaver.flagsaver(**values), pytest.raises(UserError, match=message):
    trained_flags.from_flags()


def test_batch_is_rounded_up_to_a_multiple_of_the_devices(
  trained_run, monkeypatch
):
  network = trained.from_run(str(trained_run))
  assert network.eval_config(10).batch_size == 10
  monkeypatch.setattr(trained.jax, 'device_count', lambda: 4)
  assert network.eval_config(10).batch_size == 12


def test_imagenet_classes_have_readable_names():
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


def test_imagenet_classes_are_recognised_as_ids_and_as_words():
  words = readable(imagenet_synsets())
  words[134] = words[517] = 'crane'
  words[0] = 'tench, Tinca tinca'
  assert are_imagenets(words) and are_imagenets(imagenet_synsets())
  assert not are_imagenets(words[::-1])
  assert not are_imagenets(words[:10])


def save_weights(path, network, **known):
  weights = pytest.importorskip('convmixer_jax.pretrained.weights')
  model = network.model
  fields = {
    name: getattr(model, name)
    for name in ('width', 'depth', 'patch_size', 'kernel_size', 'activation')
  }
  weights.save(
    weights.Weights(
      fields, model.num_classes, jax.device_get(network.variables), **known
    ),
    path,
  )


def test_weights_with_image_metadata_are_loaded_with_it(trained_run, tmp_path):
  run = trained.from_run(str(trained_run))
  path = str(tmp_path / 'digits.safetensors')
  known = {
    'mean': (0.5,) * 3,
    'std': (0.25,) * 3,
    'image_size': 8,
    'eval_crop_fraction': 0.9,
    'labels': tuple('abcdefghij'),
  }
  save_weights(path, run, **known)
  with flagsaver.flagsaver(weights=path):
    network = trained_flags.from_flags()
  assert network.labels() == list('abcdefghij')
  assert network.dataset is None and network.name.endswith(path)
  for name in ('mean', 'std', 'image_size', 'eval_crop_fraction'):
    assert getattr(network, name) == known[name]
  images = np.zeros((1, 8, 8, 3))
  np.testing.assert_array_equal(
    network.model.apply(network.variables, images, train=False),
    run.model.apply(run.variables, images, train=False),
  )


def test_weights_without_metadata_get_defaults(trained_run, tmp_path):
  run = trained.from_run(str(trained_run))
  path = str(tmp_path / 'bare.safetensors')
  save_weights(path, run)
  network = trained.from_weights(path)
  assert network.class_names is None
  assert network.labels() == [str(k) for k in range(10)]
  assert (network.image_size, network.eval_crop_fraction) == (224, 0.96)
  assert network.mean == (0.485, 0.456, 0.406)

  model = run.model.clone(num_classes=1000)
  head = {'kernel': np.zeros((16, 1000)), 'bias': np.zeros(1000)}
  params = run.variables['params'] | {'head': jax.tree.map(np.float32, head)}
  wide = dataclasses.replace(
    run, model=model, variables=run.variables | {'params': params}
  )
  save_weights(path, wide)
  assert trained.from_weights(path).class_names == imagenet_synsets()
