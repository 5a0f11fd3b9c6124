r"""Fine-tuning: trained weights, a new head, another data set.

    python -m convmixer_jax prepare imagenette/full-size-v2
    python train.py --config=configs/finetune.py:768_32 --workdir=runs/nette

The variant after the colon is one of configs/imagenet.py. For those that were
released, the weights come from the hub; for others, and for weights of
your own, name them. Where config.model is not their network, the error line has
the flags that make it so:

    python train.py --config=configs/finetune.py:512_12_k8 \
      --workdir=runs/flowers --config.init_from=runs/imagenet \
      --config.dataset.name=tf_flowers \
      --config.dataset.train_split='train[:90%]' \
      --config.dataset.eval_split='train[90%:]'

The body learns at a tenth of the head's rate. With --config.body_lr_scale=0 it
is frozen, BatchNorm's statistics too, so that only the head is learnt from what
the network sees in evaluation; then take ten times the learning rate.
"""

import ml_collections

from configs import imagenet
from convmixer_jax.models import MODELS

RELEASED = {
  variant: source
  for architecture in MODELS.values()
  for variant, source in architecture.released.items()
}


def get_config(variant: str = '768_32') -> ml_collections.ConfigDict:
  """Returns the config for a network of `configs.imagenet`."""
  config = imagenet.get_config(variant)
  config.init_from = RELEASED.get(variant, '')
  config.new_head = True

  config.dataset.name = 'imagenette/full-size-v2'
  config.batch_size = 64
  config.num_epochs = 10
  if 'bn_group_size' in config.model:
    config.model.bn_group_size = 0

  config.augment.crop_scale = (0.25, 1.0)
  config.augment.rand_augment.num_ops = 0
  config.mixup.mixup_alpha = 0.0
  config.mixup.cutmix_alpha = 0.0
  config.mixup.group_size = 0
  config.erasing.probability = 0.0

  config.learning_rate = 1e-3
  config.body_lr_scale = 0.1
  config.schedule = 'cosine'
  config.warmup_epochs = 1.0
  config.adam_epsilon = 1e-8
  config.checkpoint_every_steps = 1000
  return config
