"""Configs, and what is refused in them."""

import pathlib
import runpy
import shutil
import sys

import ml_collections
import pytest

from configs import cifar10, default, digits, finetune, imagenet, patches
from convmixer_jax import config as config_lib
from convmixer_jax import models
from convmixer_jax.config.data_keys import DATA_KEYS
from convmixer_jax.config.optimizer_keys import OPTIMIZER_KEYS
from convmixer_jax.config.run_keys import RUN_KEYS
from convmixer_jax.config.schema import SCHEMA
from convmixer_jax.data.augment.policies import POLICIES
from convmixer_jax.errors import UserError
from convmixer_jax.training.validate import validate

CONFIGS = {
  'default': default.get_config,
  'digits': digits.get_config,
  'imagenet': imagenet.get_config,
  'cifar10': cifar10.get_config,
  'finetune': finetune.get_config,
  'patches': patches.get_config,
} | {
  f'imagenet:{name}': lambda name=name: imagenet.get_config(name)
  for name in imagenet.VARIANTS
}


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_is_valid_and_has_the_default_keys(name):
  config = CONFIGS[name]()
  validate(config)
  expected = default.get_config()
  expected.model = models.model_config(config.model.name)
  assert (
    config_lib.flatten(config).keys() == config_lib.flatten(expected).keys()
  )


@pytest.mark.parametrize(
  'name', ['default', 'digits', 'cifar10', 'finetune', 'imagenet', 'patches']
)
def test_a_config_file_works_wherever_it_lies(name, tmp_path, monkeypatch):
  source = pathlib.Path(default.__file__).with_name(f'{name}.py')
  copy = shutil.copy(source, tmp_path / 'copy.py')
  monkeypatch.setitem(sys.modules, 'configs', None)  # as if not installed
  config = runpy.run_path(str(copy))['get_config']()
  assert config == CONFIGS[name]()
  config_lib.validate(config)


def test_no_key_is_declared_twice():
  keys = (*RUN_KEYS, *OPTIMIZER_KEYS, *DATA_KEYS)
  assert len(keys) == len(SCHEMA)


@pytest.mark.parametrize(
  ('key', 'choices'),
  [
    ('augment.rand_augment.policy', POLICIES),
    ('dtype', models.DTYPES),
  ],
)
def test_choices_are_those_that_are_implemented(key, choices):
  (allowed,) = SCHEMA[key].ranges
  assert allowed.text == f'one of {", ".join(choices)}'


def test_an_unknown_key_is_refused_with_the_nearest(config):
  config.lerning_rate = 0.1
  message = (
    r'lerning_rate is not a key of the config; did you mean '
    r'config.learning_rate\?'
  )
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_a_missing_key_is_refused_with_its_default(config):
  del config.erasing.area
  message = r'config.erasing.area is missing; its default is \(0.02, 0.333'
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_imagenet_config_is_the_recipe_of_the_paper():
  config = imagenet.get_config('768_32')
  assert (config.batch_size, config.num_epochs) == (640, 300)
  assert imagenet.get_config('1536_20').num_epochs == 150
  assert (config.learning_rate, config.weight_decay) == (0.01, 2e-5)
  assert (config.adam_epsilon, config.clip_norm) == (1e-3, 1.0)
  assert (config.mixup.mixup_alpha, config.mixup.cutmix_alpha) == (0.5, 0.5)
  assert config.mixup.group_size == config.model.bn_group_size == 64
  assert config.augment.crop_scale == (0.08, 1.0)
  assert config.augment.rand_augment.num_ops == 2
  assert config.erasing.probability == 0.25
  assert config.label_smoothing == 0.1
  assert config.model.activation == 'relu'


@pytest.mark.parametrize(
  ('variant', 'fields'),
  [
    ('', {'stem': 'patches', 'patch_size': 2, 'token_mixer': 'convolution'}),
    (
      'stem=patch4,mixer=attention',
      {'stem': 'patches', 'patch_size': 4, 'token_mixer': 'attention'},
    ),
    ('stem=pixels', {'stem': 'pixels', 'patch_size': 1}),
    (
      'mixer=pool,stem=convolutions8',
      {'stem': 'convolutions', 'patch_size': 8, 'kernel_size': 3},
    ),
    ('stem=overlapping2', {'stem': 'overlapping', 'patch_size': 2}),
  ],
)
def test_patches_config_has_the_stem_and_mixer_of_its_variant(variant, fields):
  config = patches.get_config(variant)
  validate(config)
  for name, value in fields.items():
    assert config.model[name] == value
  assert config.learning_rate == cifar10.get_config().learning_rate


@pytest.mark.parametrize(
  ('variant', 'message'),
  [
    ('patch2', "has no variant 'patch2'; give a stem and a mixer, as in stem="),
    ('stem=4', "has no stem '4'; there are pixels, and patch2, overlapping4"),
    ('stem=pixels2', "has no stem 'pixels2'"),
    ('stem=patch', "has no stem 'patch'"),
  ],
)
def test_unknown_stem_or_mixer_of_patches_is_refused(variant, message):
  with pytest.raises(UserError, match=message):
    patches.get_config(variant)


def test_unknown_variant_is_refused_with_the_list():
  with pytest.raises(
    UserError, match=r"no variant '768-32'; there are 1536_20"
  ):
    imagenet.get_config('768-32')
  with pytest.raises(UserError, match=r'resnet152, .*resnet152_a1'):
    imagenet.get_config('resnet152_a9')


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('batch_size', 0, 'config.batch_size = 0 is not at least 1'),
    ('seed', -1, 'config.seed = -1 is not at least 0'),
    ('seed', 2**32, r'is not below 2\*\*32'),
    ('schedule', 'linear', "'linear' is not one of triangular, cosine, step"),
    ('dtype', 'float64', "'float64' is not one of float32, bfloat16"),
    ('learning_rate', -0.1, 'config.learning_rate = -0.1 is not at least 0'),
    ('label_smoothing', 1.0, 'config.label_smoothing = 1.0 is not at least 0'),
    ('erasing.probability', 1.5, 'config.erasing.probability = 1.5 is not a'),
    ('erasing.area', (0.5, 0.1), r'config.erasing.area = \(0.5, 0.1\) is not'),
    (
      'dataset.mean',
      (0.5,),
      'dataset.mean has 1 values and config.dataset.std 3',
    ),
    ('dataset.std', (0.5, 0.5, 0.0), 'config.dataset.std = .* is not positive'),
    ('mesh.data', 0, 'config.mesh.data = 0 is not at least 1, or -1'),
    ('mesh.fsdp', 0, 'config.mesh.fsdp = 0 is not at least 1'),
    ('log_every_steps', -1, 'config.log_every_steps = -1 is not at least 0'),
    (
      'backbone_lr_scale',
      -1.0,
      'config.backbone_lr_scale = -1.0 is not at least 0',
    ),
    (
      'new_head',
      True,
      'new_head = True needs config.init_from; set it, or set',
    ),
    ('num_epochs', 0, 'num_epochs = 0 and config.num_steps = 0; set one'),
  ],
)
def test_value_out_of_range_is_refused(config, key, value, message):
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


def test_nearest_key_corrects_a_typing_error():
  keys = config_lib.flatten(default.get_config())
  assert config_lib.nearest('model.widht', keys) == 'model.width'
  assert config_lib.nearest('lerning_rate', keys) == 'learning_rate'


def test_changed_keys_leaves_out_keys_that_may_change():
  old = {'seed': 0, 'num_epochs': 1, 'mesh.data': 1, 'model.width': 8}
  new = {'seed': 0, 'num_epochs': 2, 'mesh.data': 8, 'model.width': 9, 'x': 1}
  assert config_lib.changed_keys(old, new) == ['model.width', 'x']


def test_a_run_from_before_a_key_did_what_its_default_means():
  new = config_lib.flatten(default.get_config())
  old = {k: v for k, v in new.items() if k not in ('loss', 'ema_decay')}
  assert config_lib.changed_keys(old, new) == []
  new['ema_decay'] = 0.9
  assert config_lib.changed_keys(old, new) == ['ema_decay']


def test_changed_keys_has_only_the_name_for_another_network():
  old = {'seed': 0, 'model.name': 'convmixer', 'model.kernel_size': 3}
  new = {'seed': 1, 'model.name': 'vit', 'model.heads': 4, 'model.width': 9}
  assert config_lib.changed_keys(old, new) == ['model.name', 'seed']


def test_changed_keys_has_what_one_of_them_lacks():
  old, new = {'new_head': False, 'old_key': 1}, {'init_from': ''}
  assert config_lib.changed_keys(old, new) == [
    'init_from',
    'new_head',
    'old_key',
  ]


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('model', 'vit', "config.model is 'vit', not a section"),
    ('augment', 3, 'config.augment is 3, not a section'),
    ('mixup', None, 'config.mixup is None, not a section'),
    ('datasets', ml_collections.ConfigDict(), 'did you mean config.dataset'),
  ],
)
def test_sections_that_are_missing_or_misspelt_are_refused(key, value, message):
  config = default.get_config()
  with config.unlocked(), config.ignore_type():
    if key in config:
      del config[key]
    config[key] = value
  with pytest.raises(UserError, match=message):
    validate(config)


@pytest.mark.parametrize('config', [None, {}, 'digits'])
def test_configs_of_other_types_are_refused(config):
  with pytest.raises(UserError, match='not a ConfigDict; start from'):
    validate(config)
