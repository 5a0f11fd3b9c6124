r"""ConvMixer-256/8 on CIFAR-10.

    python -m convmixer_jax prepare cifar10
    python train.py --config=configs/cifar10.py --workdir=runs/cifar10

A first look, on 2 CPU cores in 1.5 minutes, eval_accuracy 0.636:

    python train.py --config=configs/cifar10.py --workdir=runs/cifar10_64_4 \
      --config.model.width=64 --config.model.depth=4 --config.num_epochs=2

The setting is that of the authors' script (locuslab/convmixer-cifar10) for
which they report 92.60 % after 25 epochs: batch 512, AdamW, peak learning rate
0.05, weight decay 0.005 on all parameters, no clipping, flip, whole images, and
torchvision's RandAugment with n = 2, m = 12.
"""

import ml_collections

from convmixer_jax.config import default_config
from convmixer_jax.models import model_config


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  config = default_config(
    model_config('convmixer', width=256, depth=8, patch_size=2)
  )
  config.dtype = 'bfloat16'  # the authors' script has mixed precision
  config.batch_size = 512
  config.num_epochs = 25

  config.dataset.name = 'cifar10'
  config.dataset.image_size = 32
  config.dataset.mean = (0.4914, 0.4822, 0.4465)
  config.dataset.std = (0.2471, 0.2435, 0.2616)

  config.augment.crop = 'none'
  config.augment.rand_augment.num_ops = 2
  config.augment.rand_augment.policy = 'torchvision'
  config.augment.rand_augment.magnitude = 12.0
  config.augment.rand_augment.magnitude_std = 0.0
  config.augment.rand_augment.probability = 1.0
  config.augment.rand_augment.fill = (0, 0, 0)

  config.learning_rate = 0.05
  config.weight_decay = 0.005
  config.decay_all = True
  config.adam_epsilon = 1e-8
  config.clip_norm = 0.0
  return config
