"""timm loads the folder that `push` writes; needs timm and torch."""

import contextlib
import json
import warnings

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import create
from fake_hub import fake_hub
from PIL import Image
from trained_models import trained_model

from convmixer_jax.models import ConvMixer
from convmixer_jax.models.convmixer.variants import VARIANTS
from convmixer_jax.pretrained import hub_folder, hub_upload
from convmixer_jax.pretrained.load import load

with contextlib.ExitStack() as stack:
  stack.enter_context(warnings.catch_warnings())
  warnings.simplefilter('ignore')
  torch = pytest.importorskip('torch')
  timm = pytest.importorskip('timm')
pytestmark = [
  pytest.mark.slow,
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
  pytest.mark.filterwarnings('ignore::FutureWarning'),
]

NAMES = ('tabby cat', 'dog', 'a "bird"', 'n01440764')


def write(trained, directory):
  for name, content in hub_folder.make_files(trained, 'me/network').items():
    (directory / name).write_bytes(content)
  return load(directory)


def images_of(size, channels=3):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (2, size + 9, size + 30, channels), np.uint8)


def logits_of_timm(model, images):
  """Returns those of timm's own transform and network, in float32."""
  model.eval()
  config = timm.data.resolve_data_config({}, model=model)
  transform = timm.data.create_transform(**config)
  pixels = [transform(Image.fromarray(image)) for image in images]
  with torch.no_grad():
    return model(torch.stack(pixels)).numpy()


def tiny(name, size, channels=3, **changes):
  model, variables = create(name, len(NAMES), **changes)
  known = {
    'image_size': size,
    'eval_crop_fraction': 0.9,
    'mean': (0.4, 0.5, 0.6),
    'std': (0.2, 0.25, 0.3),
    'class_names': NAMES,
  }
  return trained_model(model, variables, **known)


@pytest.mark.parametrize('network', ['vit', 'distilled_vit', 'resnet'])
def test_network_of_any_size_is_created_by_name(network, tmp_path):
  trained = write(tiny(network, 8), tmp_path)
  model = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
  images = images_of(8)
  expected = trained.logits(images)
  found = logits_of_timm(model, images)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  assert tuple(model.pretrained_cfg['label_names']) == NAMES

  tuned = timm.create_model(
    f'local-dir:{tmp_path}', pretrained=True, num_classes=7
  )
  heads = tuned.get_classifier()
  for head in heads if isinstance(heads, tuple) else [heads]:
    assert head.weight.shape[0] == 7


def test_timm_loads_what_was_uploaded(tmp_path, monkeypatch):
  trained = tiny('vit', 8)
  with fake_hub(monkeypatch, str(tmp_path)):
    files = hub_folder.make_files(trained, 'me/vit')
    hub_upload.upload(files, 'me/vit', private=False, message='Upload')
    model = timm.create_model('hf-hub:me/vit', pretrained=True)
    loaded = load('hf://me/vit')
  images = images_of(8)
  np.testing.assert_array_equal(loaded.logits(images), trained.logits(images))
  np.testing.assert_allclose(
    logits_of_timm(model, images), trained.logits(images), 1e-4, 1e-4
  )


@pytest.mark.parametrize(
  ('network', 'changes'),
  [
    ('convmixer', {'activation': 'gelu'}),
    ('convmixer', {'activation': 'relu'}),
    ('resmlp', {}),
    ('mixer', {'token_hidden': 3}),
  ],
)
def test_network_of_another_size_is_created_as_the_card_says(
  network, changes, tmp_path, monkeypatch
):
  trained = write(tiny(network, 8, **changes), tmp_path)
  config = json.loads((tmp_path / 'config.json').read_text())
  card = (tmp_path / 'README.md').read_text()
  code = card.split('```python\n')[1].split('```')[0]
  monkeypatch.setattr(
    huggingface_hub, 'hf_hub_download', lambda _, name: str(tmp_path / name)
  )
  scope = {}
  exec(code, scope)
  model = scope['model']
  model.pretrained_cfg = config['pretrained_cfg']
  images = images_of(8)
  np.testing.assert_allclose(
    logits_of_timm(model, images), trained.logits(images), 1e-4, 1e-4
  )
  with pytest.raises(RuntimeError, match='Unknown model'):  # as the card says
    timm.create_model(f'local-dir:{tmp_path}', pretrained=True)


@pytest.mark.parametrize(
  ('variant', 'name', 'channels'),
  [
    ('768_32', 'convmixer_768_32', 3),
    ('1024_20', 'convmixer_1024_20_ks9_p14', 5),
  ],
)
def test_published_convmixer_is_created_by_name(
  variant, name, channels, tmp_path
):
  fields = {k: v for k, v in VARIANTS[variant].items() if k != 'name'}
  model = ConvMixer(**fields, num_classes=len(NAMES))
  shape = jnp.zeros((1, 32, 32, channels))
  variables = model.init(jax.random.key(0), shape, train=False)
  known = {
    'image_size': 32,
    'eval_crop_fraction': 1.0,
    'mean': (0.5,) * channels,
    'std': (0.25,) * channels,
    'class_names': NAMES,
  }
  trained = write(trained_model(model, variables, **known), tmp_path)
  config = json.loads((tmp_path / 'config.json').read_text())
  assert config['architecture'] == name
  found = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
  pixels = images_of(32, channels)[:, :32, :32]
  expected = trained.logits(pixels)
  normalised = np.float32((pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2)
  with torch.no_grad():
    logits = found(torch.from_numpy(normalised)).numpy()
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  assert tuple(found.default_cfg['input_size']) == (channels, 32, 32)
