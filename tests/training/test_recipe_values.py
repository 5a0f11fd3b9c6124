"""The values of each recipe, against those that were published.

Where a source has no value, as commented here, the recipe's own choice is
written down, so that it does not change unnoticed.
"""

import re

import pytest

from configs import imagenet
from convmixer_jax.config import flatten

# timm's cosine: the warm-up takes the place of the first epochs.
COSINE = {
  'schedule': 'cosine',
  'schedule_per_epoch': True,
  'warmup_epochs': 5.0,
  'warmup_learning_rate': 1e-6,
  'warmup_prefix': False,
}
RAND_AUGMENT = {  # rand-m9-mstd0.5-inc1
  'augment.rand_augment.policy': 'timm',
  'augment.rand_augment.num_ops': 2,
  'augment.rand_augment.magnitude': 9.0,
  'augment.rand_augment.magnitude_std': 0.5,
  'augment.rand_augment.increasing': True,
  'augment.rand_augment.probability': 0.5,
}
COMMON = {
  'accum_steps': 1,
  'augment.crop': 'random_resized',
  'augment.crop_scale': (0.08, 1.0),
  'augment.crop_ratio': (3 / 4, 4 / 3),
  'augment.flip': 0.5,
  'backbone_lr_scale': 1.0,
  'dataset.mean': (0.485, 0.456, 0.406),
  'dataset.std': (0.229, 0.224, 0.225),
  'ema_decay': 0.0,
  'layer_lr_decay': 1.0,
}
# The command of ConvMixer's authors; its paper has ResNet-152 trained by it.
CONVMIXER = (
  COMMON
  | RAND_AUGMENT
  | {
    'optimizer': 'adamw',
    'adam_beta1': 0.9,
    'adam_beta2': 0.999,
    'adam_epsilon': 1e-3,
    'clip_norm': 1.0,
    'learning_rate': 0.01,
    'weight_decay': 2e-5,
    'decay_all': False,
    'batch_size': 640,  # 10 devices with 64 images each
    'num_epochs': 150,
    'schedule': 'triangular',
    'schedule_per_epoch': False,
    'warmup_epochs': 0.0,
    'repeated_augmentation': 1,
    'augment.interpolation': 'random',
    'augment.eval_crop_fraction': 0.96,
    'augment.eval_interpolation': 'bicubic',
    'erasing.probability': 0.25,
    'erasing.area': (0.02, 1 / 3),
    'mixup.mixup_alpha': 0.5,
    'mixup.cutmix_alpha': 0.5,
    'mixup.switch_probability': 0.5,
    'mixup.group_size': 64,
    'loss': 'cross_entropy',
    'label_smoothing': 0.1,
    'model.bn_group_size': 64,
    'dataset.image_size': 224,
    'augment.eval_image_size': 0,  # that of training
  }
)
# DeiT's code (main.py and its submission script) and paper, table 9. Its
# average of the parameters is neither evaluated nor published.
DEIT = (
  COMMON
  | RAND_AUGMENT
  | COSINE
  | {
    'optimizer': 'adamw',
    'adam_beta1': 0.9,
    'adam_beta2': 0.999,
    'adam_epsilon': 1e-8,
    'clip_norm': 0.0,
    'learning_rate': 5e-4 * 1024 / 512,
    'learning_rate_end': 1e-5,
    'weight_decay': 0.05,
    'decay_all': False,
    'batch_size': 1024,  # 2 nodes of 8 devices with 64 images each
    'num_epochs': 300,
    'repeated_augmentation': 3,
    'augment.interpolation': 'bicubic',
    'augment.eval_crop_fraction': 224 / 256,
    'augment.eval_interpolation': 'bicubic',
    'erasing.probability': 0.25,
    'mixup.mixup_alpha': 0.8,
    'mixup.cutmix_alpha': 1.0,
    'mixup.switch_probability': 0.5,
    'mixup.group_size': 64,  # one factor for the images of a device
    'loss': 'cross_entropy',
    'label_smoothing': 0.1,
    'model.drop_path': 0.1,
    'dataset.image_size': 224,
    'augment.eval_image_size': 0,
  }
)
# timm's defaults: its LAMB clips, whether a recipe clips besides or not.
LAMB = {
  'optimizer': 'lamb',
  'adam_beta1': 0.9,
  'adam_beta2': 0.999,
  'adam_epsilon': 1e-6,
  'clip_norm': 1.0,
  'decay_all': False,
}
# ResMLP's paper, section 3.1: the rest as DeiT's. Not published: the batch
# size, and the drop path of the B networks.
RESMLP = (
  DEIT | LAMB | {'learning_rate': 5e-3, 'weight_decay': 0.2, 'num_epochs': 400}
)
# "ResNet strikes back", table 2. Not published: where the warm-up starts and
# the cosine ends, how many images share a draw of mixup.
A2 = (
  COMMON
  | RAND_AUGMENT
  | COSINE
  | LAMB
  | {
    'learning_rate': 5e-3,
    'learning_rate_end': 1e-6,
    'weight_decay': 0.02,
    'batch_size': 2048,
    'num_epochs': 300,
    'repeated_augmentation': 3,
    'augment.rand_augment.magnitude': 7.0,
    'augment.eval_crop_fraction': 0.95,
    'augment.eval_interpolation': 'bicubic',
    'erasing.probability': 0.0,
    'mixup.mixup_alpha': 0.1,
    'mixup.cutmix_alpha': 1.0,
    'mixup.switch_probability': 0.5,
    'mixup.group_size': 128,
    'loss': 'binary_cross_entropy',
    'bce_threshold': 0.2,
    'label_smoothing': 0.0,
    'model.drop_path': 0.05,
    'model.bn_group_size': 128,  # chosen: not published
    'dataset.image_size': 224,
    'augment.eval_image_size': 0,
  }
)
A1 = A2 | {
  'num_epochs': 600,
  'weight_decay': 0.01,
  'label_smoothing': 0.1,
  'mixup.mixup_alpha': 0.2,
}
A3 = A2 | {
  'num_epochs': 100,
  'learning_rate': 8e-3,
  'repeated_augmentation': 1,
  'augment.rand_augment.magnitude': 6.0,
  'model.drop_path': 0.0,
  'dataset.image_size': 160,
  'augment.eval_image_size': 224,
}
# The defaults of torchvision's training script, of its first weights.
TORCHVISION = COMMON | {
  'optimizer': 'sgd',
  'momentum': 0.9,
  'nesterov': False,
  'clip_norm': 0.0,
  'learning_rate': 0.1,
  'weight_decay': 1e-4,
  'decay_all': True,
  'batch_size': 256,  # 8 devices with 32 images each
  'num_epochs': 90,
  'schedule': 'step',
  'step_epochs': 30.0,
  'step_factor': 0.1,
  'warmup_epochs': 0.0,
  'repeated_augmentation': 1,
  'augment.rand_augment.num_ops': 0,
  'augment.interpolation': 'bilinear',
  'augment.eval_interpolation': 'bilinear',
  'augment.eval_crop_fraction': 224 / 256,
  'erasing.probability': 0.0,
  'mixup.mixup_alpha': 0.0,
  'mixup.cutmix_alpha': 0.0,
  'loss': 'cross_entropy',
  'label_smoothing': 0.0,
  'model.drop_path': 0.0,
  'model.bn_group_size': 32,
  'dataset.image_size': 224,
  'augment.eval_image_size': 0,
}
RESMLPS = [name for name in imagenet.VARIANTS if name.startswith('resmlp_')]
RESNETS = [name for name in imagenet.VARIANTS if name.startswith('resnet')]
CASES = {
  **{name: CONVMIXER for name in ('1536_20', '1024_20')},
  '768_32': CONVMIXER | {'num_epochs': 300},
  'deit_b': DEIT,
  'deit_b_distilled': DEIT,
  'vit_b16': DEIT | {'dataset.mean': (0.5,) * 3, 'dataset.std': (0.5,) * 3},
  'mixer_b16': DEIT | {'dataset.mean': (0.5,) * 3, 'dataset.std': (0.5,) * 3},
  **{name: RESMLP for name in RESMLPS},
}
for _name in RESNETS:
  CASES |= {
    _name: CONVMIXER | {'model.drop_path': 0.0},
    f'{_name}_a1': A1,
    f'{_name}_a2': A2,
    f'{_name}_a3': A3,
    f'{_name}_tv': TORCHVISION,
  }


@pytest.mark.parametrize('variant', CASES)
def test_recipe_has_the_published_values(variant):
  found = flatten(imagenet.get_config(variant))
  expected = CASES[variant]
  assert {key: found[key] for key in expected} == expected


def test_every_variant_of_another_network_than_ours_is_a_case():
  others = imagenet.CHOICES.keys() - CASES.keys()
  assert all(re.match(r'isotropic_|\d+_\d+', name) for name in others)
