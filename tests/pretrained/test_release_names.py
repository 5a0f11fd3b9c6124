"""Released weights are used with the images that timm has for them.

Regenerate the fixtures with fixtures/make_released_fixtures.py.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy
from architectures import TINY, create
from ml_collections import ConfigDict

from configs import finetune
from convmixer_jax.cli import convert
from convmixer_jax.config import height_width
from convmixer_jax.data.augment.transforms import eval_transform
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS, RELEASED, VARIANTS
from convmixer_jax.models.released_resnet import RESNET152
from convmixer_jax.pretrained import hub_folder, weight_files
from convmixer_jax.pretrained.load import load, load_for_config
from convmixer_jax.pretrained.model_argument import parse_model

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
FACTS = json.loads((FIXTURES / 'released.json').read_text())
WEIGHTS = RESNET152 | {
  tag: weights for tag, (_, weights) in RELEASED.items() if weights.on_hub
}
MIIL = 'mixer_b16_224.miil_in21k_ft_in1k'
A3 = 'resnet152.a3_in1k'


@pytest.mark.parametrize('tag', WEIGHTS)
def test_input_is_that_of_timms_configuration(tag):
  weights, facts = WEIGHTS[tag], FACTS[tag]
  assert weights.source == f'hf://timm/{tag}'
  assert weights.input == {
    'image_size': facts['size'][1],
    'eval_crop_fraction': facts['crop'],
    'eval_interpolation': facts['interpolation'],
    'mean': tuple(facts['mean']),
    'std': tuple(facts['std']),
  }
  assert weights.license_id == facts['license']
  test = (facts['test_size'][1], facts['test_crop'])
  assert (weights.test or weights.best)[:2] == test
  for file in weights.files:
    assert file == facts['file']


def test_page_has_the_input_and_accuracy_of_each_tag():
  page = (FIXTURES.parents[1] / 'docs' / 'weights.md').read_text()
  rows = {
    line.split('`')[1].removesuffix('.pth'): line
    for line in page.splitlines()
    if line.startswith('| `')
  }
  for tag, weights in (
    RESNET152 | {tag: weights for tag, (_, weights) in RELEASED.items()}
  ).items():
    row = rows[tag]
    size, crop = weights.image_size, weights.eval_crop_fraction
    assert f'`{weights.variant}` | {size}, {crop:g}' in row
    assert ('bilinear' in row) == (weights.eval_interpolation == 'bilinear')
    assert f'{weights.best.top1:.3f}' in row
    if weights.top1 is not None:
      assert f'| {weights.top1:.3f}' in row
    if weights.test is not None:
      assert f'{weights.test.image_size} (crop {weights.test[1]:g})' in row


@pytest.mark.parametrize('name', MODELS)
def test_variants_and_their_usual_weights_exist(name):
  architecture = MODELS[name]
  for weights in architecture.released.values():
    assert weights.variant in architecture.variants
    assert VARIANTS[weights.variant]['name'] == name
    usual = architecture.usual_weights(weights.variant)
    assert architecture.published_input(weights.variant) == usual.input


def test_every_kind_of_input_prepares_images_as_timm():
  with np.load(FIXTURES / 'released_images.npz') as file:
    arrays = dict(file)
  picture = arrays.pop('picture')
  assert len(arrays) > 8
  for key, expected in arrays.items():
    crop, interpolation, *values = key.split('/')
    mean, std = np.float64(values).reshape(2, 3)
    config = ConfigDict(
      {'eval_crop_fraction': float(crop), 'eval_interpolation': interpolation}
    )
    pixels = eval_transform(picture, config, expected.shape[0])
    found = (pixels / 255 - mean) / std
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=key)


@pytest.fixture
def file(tmp_path):
  """A mixer's weights, of which nothing is known but the tensors."""
  path = tmp_path / 'weights.safetensors'
  write('mixer', path)
  return path


def write(network, path):
  _, variables = create(network)
  tensors = MODELS[network].state_dict.to_timm(variables)
  safetensors.numpy.save_file(tensors, path)


@pytest.fixture
def small_variant(monkeypatch):
  """Makes the published mixer as small as that of `file`."""
  fields = {'name': 'mixer', 'mlp_ratio': 4, **TINY['mixer']}
  monkeypatch.setitem(VARIANTS, 'mixer_b16', fields)


@pytest.mark.usefixtures('small_variant')
@pytest.mark.parametrize(
  'name',
  [
    f'{MIIL}.safetensors',
    f'{MIIL}/model.safetensors',
    'mixer_b16_224_miil-9229a591.pth',
    f'models--timm--{MIIL}/snapshots/0123/model.safetensors',
  ],
)
def test_file_of_a_known_name_has_the_input_of_its_tag(
  name, file, tmp_path, caplog
):
  path = tmp_path / name
  path.parent.mkdir(parents=True, exist_ok=True)
  shutil.copy(file, path)
  loaded = load(str(path))
  assert (loaded.mean, loaded.std) == ((0.0,) * 3, (1.0,) * 3)
  assert loaded.eval_interpolation == 'bilinear'
  assert loaded.image_size == 8  # of the tensors, which are not for 224
  assert not loaded.assumed and not caplog.text
  config = loaded.eval_config(1).augment
  assert config.eval_interpolation == 'bilinear'


def test_network_of_another_width_is_not_what_its_file_is_called(
  file, tmp_path, caplog
):
  path = tmp_path / f'{MIIL}.safetensors'
  shutil.copy(file, path)
  loaded = load(str(path))
  assert loaded.eval_interpolation == 'bicubic' and loaded.std != (1.0,) * 3
  assert {'eval_interpolation', 'mean', 'std'} < loaded.assumed
  assert 'does not contain eval_crop_fraction, eval_interp' in caplog.text
  fitting = load_for_config(str(path), ConfigDict({'name': 'mixer'}))
  assert fitting.std == loaded.std


def test_tag_is_only_for_weights_of_its_network(file):
  with pytest.raises(
    UserError, match=f"has width = 8, not 768 as '{MIIL}' has"
  ):
    load(str(file), MIIL)


@pytest.mark.usefixtures('small_variant')
def test_tag_can_be_given_and_is_written_to_what_is_made_of_it(file, tmp_path):
  assert load(str(file), 'mixer').eval_interpolation == 'bicubic'
  assert load(str(file), MIIL).eval_interpolation == 'bilinear'
  path = str(tmp_path / f'{MIIL}.safetensors')
  shutil.copy(file, path)
  copies = tmp_path / 'copy.safetensors', tmp_path / 'pushed'
  weight_files.save(load(path), str(copies[0]))
  copies[1].mkdir()
  for name, content in hub_folder.make_files(load(path), 'me/mixer').items():
    (copies[1] / name).write_bytes(content)
  for copy in copies:
    again = load(str(copy))
    assert again.eval_interpolation == 'bilinear' and again.std == (1.0,) * 3
  config = json.loads((copies[1] / 'config.json').read_text())
  assert config['pretrained_cfg']['interpolation'] == 'bilinear'


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_can_be_given_for_weights_of_its_network(variant):
  found = parse_model(variant)
  network = MODELS[found.network].names('network')
  assert found.fields == {
    key: value for key, value in VARIANTS[variant].items() if key in network
  }


@pytest.mark.usefixtures('small_variant')
def test_config_json_beside_the_weights_is_preferred(file, tmp_path):
  directory = tmp_path / MIIL
  directory.mkdir()
  shutil.copy(file, directory / 'model.safetensors')
  inputs = {'crop_pct': 0.8, 'interpolation': 'bicubic', 'std': [0.5] * 3}
  config = {'architecture': 'x', 'pretrained_cfg': inputs}
  (directory / 'config.json').write_text(json.dumps(config))
  loaded = load(str(directory))
  assert (loaded.eval_crop_fraction, loaded.std) == (0.8, (0.5,) * 3)
  assert loaded.eval_interpolation == 'bicubic'
  assert loaded.mean == (0.0,) * 3  # which it lacks
  inputs['interpolation'] = 'lanczos'
  (directory / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match=r'eval_interpolation = .lanczos. is n'):
    load(str(directory))


def test_test_size_has_its_own_crop(tmp_path):
  path = tmp_path / 'model.safetensors'
  write('convmixer', path)
  inputs = {
    **{'crop_pct': 0.95, 'input_size': [3, 16, 16]},
    **{'test_crop_pct': 1.0, 'test_input_size': [3, 24, 24]},
  }
  config = {'architecture': 'x', 'pretrained_cfg': inputs}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  copy = tmp_path / 'copy.safetensors'
  weight_files.save(load(str(path)), str(copy))
  convert.convert(str(copy), str(tmp_path / 'directory'))
  for source in (tmp_path, copy, tmp_path / 'directory'):
    loaded = load(str(source))
    assert loaded.test_input == (24, 1.0)
    for size, crop in ((None, 0.95), (16, 0.95), (20, 0.95), ((24, 24), 1.0)):
      config = loaded.eval_config(1, size)
      assert config.augment.eval_crop_fraction == crop
      assert height_width(config.dataset.image_size)[0] in (16, 20, 24)
  written = hub_folder.timm_config(loaded, None)['pretrained_cfg']
  assert written['test_input_size'] == [3, 24, 24]
  assert (written['crop_pct'], written['test_crop_pct']) == (0.95, 1.0)
  config_file = tmp_path / 'directory' / 'config.json'
  content = json.loads(config_file.read_text())
  for wrong in (24, [24, 1.5], [24], [[8, 8, 8], 1.0]):
    content['augment']['test_input'] = wrong
    config_file.write_text(json.dumps(content))
    with pytest.raises(UserError, match='is not a config of a run') as caught:
      load(str(tmp_path / 'directory'))
    assert '\n' not in str(caught.value)


def test_best_accuracy_is_that_at_the_test_size():
  a3 = RESNET152[A3]
  assert (a3.image_size, a3.top1) == (160, 78.896)
  assert a3.best == (224, 0.95, 80.548, 95.004)
  usual = MODELS['mixer'].usual_weights('mixer_b16')
  assert usual.best == (224, 0.875, 76.616, 92.250)


def test_fine_tuning_starts_from_a_tag_with_its_images():
  config = finetune.get_config(MIIL)
  assert config.init_from == f'hf://timm/{MIIL}'
  assert (config.dataset.mean, config.dataset.std) == ((0.0,) * 3, (1.0,) * 3)
  assert config.augment.eval_interpolation == 'bilinear'
  assert config.model.name == 'mixer' and config.model.width == 768
  config = finetune.get_config('vit_base_patch16_384.augreg_in21k_ft_in1k')
  assert config.dataset.image_size == 384
  assert config.augment.eval_crop_fraction == 1.0


@pytest.mark.usefixtures('small_variant')
def test_weights_to_start_from_have_the_input_of_their_tag(file):
  config = finetune.get_config('mixer_b16')
  path = file.rename(file.with_name(f'{MIIL}.safetensors'))
  loaded = load_for_config(str(path), config.model)
  assert loaded.std == (1.0,) * 3 and 'std' not in loaded.assumed
