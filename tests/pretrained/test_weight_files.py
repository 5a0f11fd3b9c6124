"""Files of weights, against timm's network (fixtures/weights.npz)."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from trained_models import trained_model

from configs import cifar10
from convmixer_jax.errors import UserError
from convmixer_jax.models import ConvMixer
from convmixer_jax.models.convmixer.state_dict import assume, to_timm
from convmixer_jax.models.convmixer.variants import VARIANTS
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.load import load

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'weights.npz'
NETWORKS = VARIANTS | {
  'cifar10': {
    key: cifar10.get_config().model[key] for key in VARIANTS['1536_20']
  }
}
REDUCED = {'width': 8, 'depth': 2}
SIZES = (56, 66)


@pytest.fixture(scope='module')
def arrays():
  with np.load(FIXTURE) as file:
    return dict(file)


def tensors_of(arrays, name):
  prefix = f'{name}/weights/'
  return {
    key.removeprefix(prefix): array
    for key, array in arrays.items()
    if key.startswith(prefix)
  }


@pytest.fixture
def path(arrays, tmp_path):
  """The file of one of timm's networks, GELU, 7 x 7 patches."""
  path = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(tensors_of(arrays, '1536_20'), path)
  return path


def assert_identical(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def relative_error(ours, theirs):
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize('name', NETWORKS)
def test_timm_weights_give_timms_logits_and_are_saved_bit_for_bit(
  name, arrays, tmp_path
):
  network = NETWORKS[name] | REDUCED
  theirs = tensors_of(arrays, name)
  path = str(tmp_path / 'timm.safetensors')
  safetensors.numpy.save_file(theirs, path)
  loaded = load(path, network['activation'])
  assert (loaded.fields, loaded.num_classes) == (network, 5)

  model = ConvMixer(**loaded.fields, num_classes=5)
  for size in SIZES:
    images = arrays['images'][:, :size, :size] / np.float32(127.5) - 1
    logits, state = model.apply(
      loaded.variables, images, train=False, mutable='intermediates'
    )
    (features,) = state['intermediates']['features']
    expected = arrays[f'{name}/features_{size}']
    assert relative_error(features, expected) < 1e-4
    assert relative_error(logits, arrays[f'{name}/logits_{size}']) < 1e-4

  out = str(tmp_path / 'ours.safetensors')
  weight_files.save(loaded, out)
  again = load(out)
  assert again.fields == loaded.fields
  assert_identical(again.variables, loaded.variables)
  written = safetensors.numpy.load_file(out)
  assert written.keys() == theirs.keys()
  for key, tensor in written.items():
    assert tensor.dtype == theirs[key].dtype
    if not key.endswith('num_batches_tracked'):
      np.testing.assert_array_equal(tensor, theirs[key])


def test_metadata_is_saved_with_the_weights(path, tmp_path):
  loaded = load(str(path), 'relu')
  known = {
    'mean': (0.1, 0.2, 0.3),
    'std': (1.0, 2.0, 3.0),
    'image_size': 56,
    'eval_crop_fraction': 0.96,
    'class_names': ('a', 'b', 'c', 'd', 'é'),
  }
  out = str(tmp_path / 'out.safetensors')
  weight_files.save(trained_model(loaded.model, loaded.variables, **known), out)
  again = load(out)
  assert again.fields['activation'] == 'relu'
  assert {key: getattr(again, key) for key in known} == known
  with safetensors.safe_open(out, 'np') as file:
    assert file.metadata()['format'] == 'pt'
  # The library writes metadata in a random order.
  content = pathlib.Path(out).read_bytes()
  for _ in range(8):
    assert weight_files.to_safetensors(again, 'again') == content


def test_config_json_of_timm_is_read(path):
  config = {
    'architecture': 'convmixer_768_32',
    'num_classes': 5,
    'label_names': ['n1', 'n2', 'n3', 'n4', 'n5'],
    'pretrained_cfg': {
      'input_size': [3, 224, 224],
      'crop_pct': 0.96,
      'mean': [0.485, 0.456, 0.406],
      'std': [0.229, 0.224, 0.225],
      'pool_size': None,
    },
  }
  beside = path.parent / 'config.json'
  beside.write_text(json.dumps(config))
  loaded = load(str(path.parent))  # the directory will do
  assert loaded.fields['activation'] == 'relu'
  assert loaded.mean == (0.485, 0.456, 0.406)
  assert loaded.std == (0.229, 0.224, 0.225)
  assert (loaded.image_size, loaded.eval_crop_fraction) == (224, 0.96)
  assert loaded.class_names == ('n1', 'n2', 'n3', 'n4', 'n5')

  # Names are ignored if they are not as many as the head has outputs.
  config['label_names'].pop()
  beside.write_text(json.dumps(config))
  assert load(str(path)).class_names is None

  beside.write_text('{"architecture": "convmixer_768_32", "pretrained_cfg": 1}')
  with pytest.raises(UserError, match=r'config\.json is not a config.json of'):
    load(str(path))
  beside.write_text('{"model": {"width": 8}}')  # of a run, say
  assert 'mean' in load(str(path)).assumed


def test_unknown_activation_is_assumed_with_a_warning(path, caplog):
  assert load(str(path)).fields['activation'] == 'gelu'
  assert (
    'does not contain its activation; assumed is activation gelu' in caplog.text
  )
  released = dict(VARIANTS['768_32'])
  del released['activation']
  assert assume(released) == {'activation': 'relu'}
  assert assume(released | {'depth': 16}) == {'activation': 'gelu'}


def test_another_network_than_claimed_is_refused(path, tmp_path):
  with pytest.raises(UserError, match="width = 8, not 768 as '768_32' has it"):
    load(str(path), '768_32')
  for other in ('vit', 'vit_b16'):
    with pytest.raises(UserError, match="of 'convmixer', which 'vit"):
      load(str(path), other)
  with pytest.raises(UserError, match="no variant '768'; there are 1536_20"):
    load(str(path), '768')
  out = str(tmp_path / 'out.safetensors')
  weight_files.save(load(str(path), 'relu'), out)
  with pytest.raises(UserError, match='activation = relu, not gelu'):
    load(out, 'gelu')


def test_half_precision_is_read_as_float32(arrays, tmp_path):
  tensors = {
    key: array.astype(np.float16 if array.ndim else array.dtype)
    for key, array in tensors_of(arrays, 'cifar10').items()
  }
  path = str(tmp_path / 'half.safetensors')
  safetensors.numpy.save_file(tensors, path)
  back = to_timm(load(path, 'gelu').variables)
  for key, tensor in tensors.items():
    if tensor.ndim:
      assert back[key].dtype == np.float32
      np.testing.assert_array_equal(back[key], tensor)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', r'is damaged or not a safetensors file'),
    (b'\x10\0\0\0\0\0\0\0{"a": [', r'is damaged or not a safetensors file'),
    (None, r'there is no file or .*missing\.safetensors; give a'),
  ],
)
def test_missing_or_damaged_files_are_refused(content, message, tmp_path):
  path = tmp_path / 'missing.safetensors'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=message):
    load(str(path))


def test_safetensors_under_another_suffix_are_read(path):
  other = path.rename(path.with_suffix('.pth'))
  loaded = load(other, 'relu')
  assert loaded.num_classes == 5
  assert 'array(' not in repr(loaded)


def test_truncated_file_is_refused(path):
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match='is damaged or not a safetensors file'):
    load(str(path))


def test_unwritable_path_is_refused(path):
  with pytest.raises(UserError, match=r'/proc/x\.safetensors cannot be writ'):
    weight_files.save(load(str(path), 'gelu'), '/proc/x.safetensors')


@pytest.mark.parametrize(
  'wrong',
  [
    {'mean': [0.5, 0.5]},
    {'std': [1.0, float('nan'), 1.0]},
    {'std': [0.0, 1.0, 1.0]},
    {'image_size': '224'},
    {'image_size': 2**40},
    {'eval_crop_fraction': float('inf')},
    {'class_names': [1, 2, 3, 4, 5]},
    {'class_names': 5},
    {'fields': 3},
    {'network': ['convmixer']},
    json.loads('{"mean":' + '[' * 60 + ']' * 60 + '}'),
  ],
)
def test_metadata_of_other_types_is_refused(wrong, arrays, tmp_path):
  path = str(tmp_path / 'wrong.safetensors')
  safetensors.numpy.save_file(
    tensors_of(arrays, '1536_20'), path, {'convmixer_jax': json.dumps(wrong)}
  )
  with pytest.raises(UserError, match=r'the header of .* is damaged') as error:
    load(path, 'gelu')
  assert '\n' not in str(error.value)
