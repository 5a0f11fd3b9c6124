"""Configs, and what is refused in them."""

import pytest

from configs import cifar10, default, digits, finetune, imagenet
from convmixer_jax import config as config_lib
from convmixer_jax import models
from convmixer_jax.data.augment import transforms
from convmixer_jax.errors import UserError

CONFIGS = {
  'default': default.get_config,
  'digits': digits.get_config,
  'cifar10': cifar10.get_config,
  'finetune': finetune.get_config,
} | {
  f'imagenet:{name}': lambda name=name: imagenet.get_config(name)
  for name in imagenet.VARIANTS
}


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_is_valid_and_has_the_default_keys(name):
  config = CONFIGS[name]()
  config_lib.validate(config)
  transforms.validate(config.augment)
  models.validate(config.model)
  expected = default.get_config()
  expected.model = models.model_config(config.model.name)
  assert (
    config_lib.flatten(config).keys() == config_lib.flatten(expected).keys()
  )


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


def test_unknown_variant_is_refused_with_the_list():
  with pytest.raises(
    UserError, match=r"no variant '768-32'; there are 1536_20"
  ):
    imagenet.get_config('768-32')


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('batch_size', 0, 'config.batch_size = 0 is not at least 1'),
    ('seed', -1, 'config.seed = -1 is not at least 0'),
    ('seed', 2**32, r'is not below 2\*\*32'),
    ('schedule', 'step', "'step' is not one of paper, cosine, constant"),
    ('dtype', 'float64', "'float64' is not one of float32, bfloat16"),
    ('learning_rate', -0.1, 'config.learning_rate = -0.1 is not at least 0'),
    ('label_smoothing', 1.0, 'config.label_smoothing = 1.0 is not at least 0'),
    ('erasing.probability', 1.5, 'config.erasing.probability = 1.5 is not a'),
    ('erasing.area', (0.5, 0.1), r'config.erasing.area = \(0.5, 0.1\) is not'),
    ('dataset.mean', (0.5,), 'dataset.mean = .* is not 3 values, each'),
    ('dataset.std', (0.5, 0.5, 0.0), 'config.dataset.std = .* is not positive'),
    ('mesh.data', 0, 'config.mesh.data = 0 is not at least 1, or -1'),
    ('mesh.fsdp', 0, 'config.mesh.fsdp = 0 is not at least 1'),
    ('log_every_steps', 0, 'config.log_every_steps = 0 is not at least 1'),
    ('body_lr_scale', -1.0, 'config.body_lr_scale = -1.0 is not at least 0'),
    (
      'new_head',
      True,
      'new_head = True, and config.init_from names no weights',
    ),
    ('num_epochs', 0, 'num_epochs = 0 and config.num_steps = 0; set one'),
  ],
)
def test_value_out_of_range_is_refused(config, key, value, message):
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=message):
    config_lib.validate(config)


@pytest.mark.parametrize(
  ('changes', 'num_devices', 'message'),
  [
    (
      {'batch_size': 100},
      8,
      '100 does not divide over 8 devices.*: 96 and 104',
    ),
    (
      {'batch_size': 12, 'accum_steps': 4},
      2,
      '12 does not .* 4 accumulation steps.*: 8 and 16',
    ),
    ({'batch_size': 4}, 8, '4 does not divide over 8 devices.*do: 8$'),
    (
      {'batch_size': 96, 'mixup.mixup_alpha': 0.5, 'mixup.group_size': 64},
      8,
      'mixup groups of 64.*: 64 and 128',
    ),
    (
      {'batch_size': 64, 'model.bn_group_size': 64, 'accum_steps': 2},
      1,
      'BatchNorm groups of 64.*do: 128',
    ),
  ],
)
def test_indivisible_batch_is_refused_with_the_nearest_sizes(
  changes, num_devices, message
):
  config = default.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    config_lib.check_batch_size(config, num_devices)


def test_divisible_batch_is_accepted():
  config = imagenet.get_config()
  config_lib.check_batch_size(config, 10)
  config.accum_steps = 2
  config_lib.check_batch_size(config, 5)


def test_nearest_key_corrects_a_typing_error():
  config = default.get_config()
  assert config_lib.nearest_key(config, 'model.widht') == 'model.width'
  assert config_lib.nearest_key(config, 'lerning_rate') == 'learning_rate'


def test_changed_keys_leaves_out_keys_that_may_change():
  old = {'seed': 0, 'num_epochs': 1, 'mesh.data': 1, 'model.width': 8}
  new = {'seed': 0, 'num_epochs': 2, 'mesh.data': 8, 'model.width': 9, 'x': 1}
  assert config_lib.changed_keys(old, new) == ['model.width', 'x']


def test_changed_keys_has_only_the_name_for_another_network():
  old = {'seed': 0, 'model.kernel_size': 3, 'model.width': 8}
  new = {'seed': 1, 'model.name': 'vit', 'model.heads': 4, 'model.width': 9}
  assert config_lib.changed_keys(old, new) == ['model.name', 'seed']


def test_changed_keys_assumes_former_behaviour_for_missing_keys():
  new = {'init_from': '', 'new_head': False, 'body_lr_scale': 1.0}
  assert config_lib.changed_keys({}, new) == []
  new |= {'init_from': 'hf://timm/x', 'body_lr_scale': 0.5}
  assert config_lib.changed_keys({}, new) == ['body_lr_scale', 'init_from']
