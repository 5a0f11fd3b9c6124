r"""Your own images, in a folder for each class: photos/cat, photos/dog ...

    python train.py --config=configs/folder.py --workdir=runs/photos \
      --config.dataset.data_dir=photos

Fine-tunes ConvMixer-1024/20, of patch 14, from its released weights, if they
are in the cache of the Hugging Face Hub or can be downloaded now. Otherwise it
trains a small network from scratch, and says so. The variant after the colon
chooses: 1024_20, 768_32 or 1536_20 are fine-tuned; scratch is ConvMixer-256/8,
trained from random numbers.

The sizes of image and batch are chosen by the training images and written to
the run's config.json; a run that is resumed keeps them. docs/own_images.md
explains the folders and their splits.
"""

import ml_collections

from convmixer_jax import config_files
from convmixer_jax.config import choose_variant, default_config
from convmixer_jax.models import MODELS, model_config
from convmixer_jax.notes import note

_SCRATCH = 'scratch'
_DEFAULT = '1024_20'  # the one with the least work for an image
_RELEASED = {
  weights.variant: weights.source
  for weights in MODELS['convmixer'].released.values()
}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  """Returns the config of a variant; '' for what can be had here."""
  variant = variant or _choose()
  choose_variant({**_RELEASED, _SCRATCH: ''}, variant, 'configs/folder.py')
  if variant == _SCRATCH:
    config = _from_scratch()
  else:
    config = config_files.load(f'finetune:{variant}')
    config.dtype = 'float32'  # fast on any device
  config.dataset.name = 'folder'
  config.dataset.train_split = 'train'
  config.dataset.eval_split = 'validation'
  config.dataset.image_size = 0  # chosen by the training images
  config.batch_size = 0
  return config


def _choose():
  from convmixer_jax.pretrained import hub, source

  weights = _RELEASED[_DEFAULT]
  if hub.is_available(source.parse_source(weights)):
    return _DEFAULT
  note(
    f'{weights} is not in the cache and cannot be downloaded now, so a smaller '
    'network is trained from scratch; --config=folder:scratch resumes it where '
    'there is a network'
  )
  return _SCRATCH


def _from_scratch():
  config = default_config(
    model_config('convmixer', width=256, depth=8, kernel_size=7, patch_size=14)
  )
  images = MODELS['convmixer'].published_input(_DEFAULT)
  config.dataset.mean = images['mean']
  config.dataset.std = images['std']
  config.num_epochs = 40
  config.eval_every_epochs = 5
  config.augment.crop_scale = (0.35, 1.0)
  config.augment.rand_augment.num_ops = 2
  config.augment.eval_crop_fraction = 0.96
  config.label_smoothing = 0.1
  config.weight_decay = 0.02
  config.learning_rate = 0.01
  return config
