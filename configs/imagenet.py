"""ImageNet as ConvMixer's authors and DeiT's trained their networks on it.

    python -m convmixer_jax prepare imagenet2012 --manual_dir=TARS
    python train.py --config=configs/imagenet.py:768_32 --workdir=gs://bucket/run

The variant after the colon is a ConvMixer's width_depth, then what differs from
patch 7 and kernel 9; or vit_b16, deit_b, resmlp_s12, _s24, _s36, _b24_8,
_b24_16 or mixer_b16. Published top-1 at 224: 1536_20 81.37 % (150 epochs),
768_32 80.16 % (300 epochs), 1024_20 76.94 %; with repeated augmentation, which
these recipes lack, deit_b 81.8 % (300 epochs), resmlp_s24 79.4 %, resmlp_b24_8
81.0 % (400 epochs). mixer_b16 was published with ImageNet-21k; it has DeiT's
recipe here. Batch 640 is the authors' 10 GPUs of 64 images, which is also what
a TPU v5e holds of 1536_20 and 768_32 (results/plan); docs/imagenet.md has the
flags for other numbers of devices.
"""

import ml_collections

from convmixer_jax.config import choose_variant, default_config
from convmixer_jax.models import MODELS, VARIANTS, model_config


def get_config(variant: str = '1536_20') -> ml_collections.ConfigDict:
  """Returns the config of one of `VARIANTS`."""
  config = default_config(
    model_config(**choose_variant(VARIANTS, variant, 'configs/imagenet.py'))
  )
  config.dtype = 'bfloat16'

  config.dataset.name = 'imagenet2012'
  config.dataset.eval_split = 'validation'
  config.dataset.image_size = 224
  images = MODELS[config.model.name].published_input(variant)
  config.dataset.mean = images['mean']
  config.dataset.std = images['std']
  config.augment.rand_augment.num_ops = 2
  config.erasing.probability = 0.25
  config.label_smoothing = 0.1
  config.checkpoint_every_steps = 2000

  if config.model.name == 'convmixer':
    _set_convmixer_recipe(config, variant)
  else:
    _set_deit_recipe(config)
  if config.model.name == 'resmlp':
    _set_resmlp_recipe(config)
  return config


def _set_convmixer_recipe(config, variant):
  """Sets that of locuslab/convmixer."""
  config.batch_size = 640
  config.num_epochs = 300 if variant == '768_32' else 150
  config.model.bn_group_size = 64  # one of the authors' devices
  config.augment.eval_crop_fraction = 0.96  # resize to 233, crop 224
  config.mixup.mixup_alpha = 0.5
  config.mixup.cutmix_alpha = 0.5
  config.mixup.group_size = 64


def _set_deit_recipe(config):
  """Sets that of facebookresearch/deit, as far as there are options for it.

  Repeated augmentation is missing; the learning rate warms up from 0 and ends
  at 0, not at 1e-6 and 1e-5, and changes with every step.
  """
  config.batch_size = 1024
  config.num_epochs = 300
  config.model.drop_path = 0.1
  config.augment.interpolation = 'bicubic'
  config.augment.eval_crop_fraction = 0.875  # resize to 256, crop 224
  config.mixup.mixup_alpha = 0.8
  config.mixup.cutmix_alpha = 1.0
  config.mixup.group_size = 64  # one of the authors' devices
  config.learning_rate = 1e-3
  config.schedule = 'cosine'
  config.warmup_epochs = 5.0
  config.weight_decay = 0.05
  config.adam_epsilon = 1e-8
  config.clip_norm = 0.0


def _set_resmlp_recipe(config):
  """Sets what differs in ResMLP's paper (arXiv 2105.03404, section 3.1).

  Not published: the batch size, which is DeiT's here, and the drop path of the
  B24 networks.
  """
  config.num_epochs = 400
  config.optimizer = 'lamb'
  config.learning_rate = 5e-3
  config.weight_decay = 0.2
