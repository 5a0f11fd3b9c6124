r"""Fine-tuning: trained weights, a new head, another data set.

    python -m convmixer_jax prepare imagenette/full-size-v2
    python train.py --config=configs/finetune.py:768_32 --workdir=runs/nette

The variant after the colon is one that configs/imagenet.py has, too. For those
that were released, the weights come from the hub; for others, and for weights
of your own, name them. Where config.model is not their network, the error line
has the flags that make it so:

    python train.py --config=configs/finetune.py:512_12_k8 \
      --workdir=runs/flowers --config.init_from=runs/imagenet \
      --config.dataset.name=tf_flowers \
      --config.dataset.train_split='train[:90%]' \
      --config.dataset.eval_split='train[90%:]'

The variant may also be a tag of released weights, such as resnet152.a1_in1k;
size, crop and interpolation are then those of its images.

The backbone learns at a tenth of the head's rate. With
--config.backbone_lr_scale=0 it is frozen, BatchNorm's statistics too, so that
only the head is learnt from what the network sees in evaluation; then take ten
times the learning rate.
"""

import ml_collections

from convmixer_jax.config import choose_variant, default_config
from convmixer_jax.models import MODELS, RELEASED, VARIANTS, model_config


def get_config(variant: str = '768_32') -> ml_collections.ConfigDict:
  """Returns the config for one of `VARIANTS` or `RELEASED`, and its weights."""
  tag, variant = variant, _variant_of(variant)
  network = choose_variant(VARIANTS, variant, 'configs/finetune.py')
  architecture = MODELS[network['name']]
  weights = architecture.released.get(tag, architecture.usual_weights(variant))
  config = default_config(model_config(**network))
  config.dtype = 'bfloat16'
  config.init_from = weights.source if weights else ''
  config.new_head = True

  config.dataset.name = 'imagenette/full-size-v2'
  config.dataset.eval_split = 'validation'
  config.dataset.image_size = 224
  images = weights.input if weights else architecture.published_input()
  config.dataset.mean = images['mean']
  config.dataset.std = images['std']
  config.batch_size = 64
  config.num_epochs = 10

  config.augment.crop_scale = (0.25, 1.0)
  config.augment.eval_crop_fraction = 0.96  # resize to 233, crop 224
  config.label_smoothing = 0.1
  config.learning_rate = 1e-3
  config.backbone_lr_scale = 0.1
  config.schedule = 'cosine'
  config.warmup_epochs = 1.0
  config.adam_epsilon = 1e-8
  if config.model.name != 'convmixer':
    config.model.drop_path = 0.1
    config.augment.interpolation = 'bicubic'
    config.augment.eval_crop_fraction = 0.875  # resize to 256, crop 224
    config.weight_decay = 0.05
    config.clip_norm = 0.0
  if tag != variant:
    config.dataset.image_size = images['image_size']
    config.augment.eval_crop_fraction = images['eval_crop_fraction']
    config.augment.eval_interpolation = images['eval_interpolation']
  return config


def _variant_of(variant):
  return RELEASED[variant][1].variant if variant in RELEASED else variant
