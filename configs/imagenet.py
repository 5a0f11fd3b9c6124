"""ImageNet as the authors trained it (locuslab/convmixer).

    python -m convmixer_jax.tools.prepare imagenet2012 --manual_dir=TARS
    python train.py --config=configs/imagenet.py:768_32 --workdir=gs://bucket/run

The variant after the colon is width_depth, then what differs from patch 7 and
kernel 9. Published top-1 at 224: 1536_20 81.37 % (150 epochs), 768_32 80.16 %
(300 epochs), 1024_20 76.94 %. Batch 640 is the authors' 10 GPUs of 64 images,
which is also what a TPU v5e holds of 1536_20 and 768_32 (results/plan); the
README has the flags for other numbers of devices.
"""

import ml_collections

from configs import default
from convmixer_jax.config import choose_variant
from convmixer_jax.variants import VARIANTS


def get_config(variant: str = '1536_20') -> ml_collections.ConfigDict:
  """Returns the config of one of `VARIANTS`."""
  config = default.get_config()
  config.dtype = 'bfloat16'
  config.batch_size = 640
  config.num_epochs = 300 if variant == '768_32' else 150

  config.model.bn_group_size = 64  # one of the authors' devices
  config.model.update(choose_variant(VARIANTS, variant, 'configs/imagenet.py'))

  config.dataset.name = 'imagenet2012'
  config.dataset.eval_split = 'validation'
  config.dataset.image_size = 224
  config.dataset.mean = (0.485, 0.456, 0.406)
  config.dataset.std = (0.229, 0.224, 0.225)

  config.augment.rand_augment.num_ops = 2
  config.augment.eval_crop_fraction = 0.96  # resize to 233, crop 224
  config.mixup.mixup_alpha = 0.5
  config.mixup.cutmix_alpha = 0.5
  config.mixup.group_size = 64
  config.erasing.probability = 0.25
  config.label_smoothing = 0.1

  config.checkpoint_every_steps = 2000
  return config
