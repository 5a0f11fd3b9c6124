"""What is known of a trained network, from runs and from weights."""

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from bright_patches import bright_patches
from trained_models import trained_model

from convmixer_jax.cli import source_flags
from convmixer_jax.data.class_names import (
  are_imagenet_classes,
  imagenet_synsets,
  readable,
)
from convmixer_jax.errors import UserError
from convmixer_jax.models import VARIANTS, ViT
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.pretrained import trained_model as trained_model_lib
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.load import load
from convmixer_jax.pretrained.runs import load_run

flags.FLAGS.mark_as_parsed()


def test_run_is_loaded_by_its_flags(trained_run):
  with flagsaver.flagsaver(source=f'{trained_run}@32'):
    network = source_flags.load_source()
  run = load_run(trained_run)
  other = run.load(32)
  assert network.model == other.model
  head = other.variables['params']['head']['kernel']
  np.testing.assert_array_equal(
    network.variables['params']['head']['kernel'], head
  )
  assert network.name == f'ConvMixer-16/2 of {trained_run}, step 32'
  assert (network.image_size, network.eval_crop_fraction) == (8, 1.0)
  assert (network.mean, network.std) == ((0.5,) * 3, (0.25,) * 3)
  assert network.labels() == list('0123456789')
  assert network.config.dataset == run.config.dataset


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({}, '--source is missing; give the network to load: --source=RUN'),
    ({'model': '768_32'}, '--source is missing'),
    ({'source': '/nowhere'}, 'there is no file or directory /nowhere; give'),
  ],
)
def test_contradicting_flags_are_refused(values, message):
  with flagsaver.flagsaver(**values), pytest.raises(UserError, match=message):
    source_flags.load_source()


def test_batch_is_rounded_up_to_a_multiple_of_the_devices(
  trained_run, monkeypatch
):
  network = load(str(trained_run))
  assert network.eval_config(10).batch_size == 10
  monkeypatch.setattr(trained_model_lib.jax, 'device_count', lambda: 4)
  assert network.eval_config(10).batch_size == 12


def test_network_is_traced_once_for_each_size_of_images(monkeypatch):
  trained = bright_patches()
  traced = []
  check = Architecture.check_image_size

  def record(self, model, variables, image_size, channels):
    traced.append(image_size)
    check(self, model, variables, image_size, channels)

  monkeypatch.setattr(Architecture, 'check_image_size', record)
  for size in (None, 24, (24, 24), 32, [32, 24], 32):
    trained.eval_config(1, size)
  trained.backbone()
  assert traced == [(24, 24), (32, 32), (32, 24)]
  for _ in range(2):
    with pytest.raises(UserError, match='images of 1 x 1 are smaller than a'):
      trained.eval_config(1, 1)


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
  assert are_imagenet_classes(words)
  assert are_imagenet_classes(imagenet_synsets())
  assert not are_imagenet_classes(words[::-1])
  assert not are_imagenet_classes(words[:10])


def test_a_file_contains_what_is_known_of_images_and_classes(
  trained_run, tmp_path
):
  run = load(str(trained_run))
  path = str(tmp_path / 'digits.safetensors')
  known = {
    'mean': (0.5,) * 3,
    'std': (0.25,) * 3,
    'image_size': 8,
    'eval_crop_fraction': 0.9,
    'class_names': tuple('abcdefghij'),
  }
  weight_files.save(trained_model(run.model, run.variables, **known), path)
  with flagsaver.flagsaver(source=path):
    network = source_flags.load_source()
  assert network.labels() == list('abcdefghij')
  assert network.config is None and network.name.endswith(path)
  assert network.assumed == frozenset()
  for name in ('mean', 'std', 'image_size', 'eval_crop_fraction'):
    assert getattr(network, name) == known[name]
  images = np.zeros((1, 8, 8, 3))
  np.testing.assert_array_equal(
    network.model.apply(network.variables, images, train=False),
    run.model.apply(run.variables, images, train=False),
  )


def test_published_values_are_assumed_where_a_file_has_none(
  trained_run, tmp_path
):
  run = load(str(trained_run))
  path = str(tmp_path / 'bare.safetensors')
  weight_files.save(trained_model(run.model, run.variables), path)
  network = load(path)
  assert network.class_names is None
  assert network.labels() == [str(k) for k in range(10)]
  assert (network.image_size, network.eval_crop_fraction) == (224, 0.96)
  assert network.mean == (0.485, 0.456, 0.406)
  assert network.assumed == {
    'image_size',
    'eval_crop_fraction',
    'eval_interpolation',
    'mean',
    'std',
  }


def test_thousand_classes_without_names_are_imagenets(trained_run, tmp_path):
  run = load(str(trained_run))
  path = str(tmp_path / 'bare.safetensors')
  model = run.model.clone(num_classes=1000)
  head = {'kernel': np.zeros((16, 1000)), 'bias': np.zeros(1000)}
  params = run.variables['params'] | {'head': jax.tree.map(np.float32, head)}
  variables = run.variables | {'params': params}
  weight_files.save(trained_model(model, variables), path)
  assert load(path).class_names == imagenet_synsets()


@pytest.mark.parametrize(
  ('model', 'mean'),
  [
    ('vit_b16', (0.5, 0.5, 0.5)),
    ('deit_b', (0.485, 0.456, 0.406)),
    (None, (0.485, 0.456, 0.406)),
  ],
)
def test_input_of_bare_weights_is_that_of_the_named_variant(
  model, mean, monkeypatch, tmp_path, caplog
):
  fields = dict(VARIANTS['vit_b16'], mlp_ratio=4)
  network = fields.pop('name')
  shapes = variable_shapes(ViT(**fields, num_classes=10), 224)
  contents = weight_files.Contents(network, fields, 10, dict(shapes), {})
  monkeypatch.setattr(weight_files, 'read', lambda *arguments: contents)
  path = tmp_path / 'bare.pth'
  path.touch()
  assert load(str(path), model).mean == mean
  assert caplog.text.count(f'mean {mean}') == 1
