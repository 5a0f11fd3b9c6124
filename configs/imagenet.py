"""ImageNet as the authors of ConvMixer and of other networks trained on it.

    python -m convmixer_jax prepare imagenet2012 --manual_dir=TARS
    python train.py --config=configs/imagenet.py:768_32 --workdir=gs://bucket/run

The variant after the colon is a ConvMixer's width_depth, then what differs from
patch 7 and kernel 9; or vit_b16, deit_b, deit_b_distilled, resmlp_s12, _s24,
_s36, _b24_8, _b24_16, mixer_b16, resnet50, resnet101 or resnet152. A ResNet has
ConvMixer's recipe, as in its paper's table, or another by suffix: _a1, _a2, _a3
("ResNet strikes back") or _tv (torchvision's first), as in resnet152_a1. An
isotropic network has ConvMixer's too, whichever network its fields make it.

| variant | epochs | batch | published top-1 at 224 | on |
| --- | --- | --- | --- | --- |
| 1536_20, 1024_20 | 150 | 640 | 81.37, 76.94 % | 10 GPUs |
| 768_32 | 300 | 640 | 80.16 % | 10 GPUs |
| deit_b | 300 | 1024 | 81.8 % | 16 GPUs, 37 hours; 8, 53 hours |
| deit_b_distilled | 300 | 1024 | 83.4 %, with a teacher | |
| resmlp_s12, _s24, _s36 | 400 | 1024 | 76.6, 79.4, 79.7 % | 8 V100, 2 days |
| resmlp_b24_8, _b24_16 | 400 | 1024 | 81.0, 81.0 % | 8 V100 |
| resnet152 | 150 | 640 | 79.64 % (ConvMixer's paper) | |
| resnet152_a1, _a2, _a3 | 600, 300, 100 | 2048 | 82.0, 81.8, 80.5 % | |
| resnet50_a1 | 600 | 2048 | 80.4 % | 4 V100, 4.6 days |
| resnet50_a2, _a3 | 300, 100 | 2048 | 79.8, 78.1 % | |
| resnet152_tv | 90 | 256 | 78.3 % | 8 GPUs |
| vit_b16, mixer_b16 | 300 | 1024 | with ImageNet-21k only | |

deit_b_distilled is trained without a teacher here. Two days are what ResMLP's
paper gives for most of its networks; other hours were not found. On 16 TPU v5e,
`plan` bounds from below, in chip-hours: deit_b, vit_b16 and deit_b_distilled by
120, mixer_b16 by 80, resmlp_s24 by 56, _b24_16 by 167 and _b24_8, which needs
--config.model.remat=True there, by 434; resnet152 by 33, its _a1, _a2, _a3 and
_tv by 214, 107, 15 and 18: see results/plan. docs/imagenet.md names sources,
and has the flags for other numbers of devices.
"""

from collections.abc import Callable

import ml_collections

from convmixer_jax.config import choose_variant, default_config
from convmixer_jax.models import MODELS, VARIANTS, model_config, recipes

Recipe = Callable[[ml_collections.ConfigDict], None]
RECIPES: dict[str, Recipe] = {
  'convmixer': recipes.convmixer,
  'distilled_vit': recipes.deit,  # without a teacher
  'mixer': recipes.deit,
  'resmlp': recipes.resmlp,
  'resnet': recipes.convmixer,
  'vit': recipes.deit,
}
RESNET_RECIPES: dict[str, Recipe] = {
  'a1': recipes.resnet_a1,
  'a2': recipes.resnet_a2,
  'a3': recipes.resnet_a3,
  'tv': recipes.torchvision,
}
# A variant is a network and its usual recipe, or a ResNet and another one.
CHOICES: dict[str, tuple[str, Recipe]] = {
  name: (name, RECIPES.get(fields.get('name', ''), recipes.convmixer))
  for name, fields in VARIANTS.items()
} | {
  f'{name}_{suffix}': (name, recipe)
  for name, fields in VARIANTS.items()
  if fields.get('name') == 'resnet'
  for suffix, recipe in RESNET_RECIPES.items()
}


def get_config(variant: str = '1536_20') -> ml_collections.ConfigDict:
  """Returns the config of one of `CHOICES`."""
  network, recipe = choose_variant(CHOICES, variant, 'configs/imagenet.py')
  config = default_config(model_config(**VARIANTS[network]))
  config.dtype = 'bfloat16'

  config.dataset.name = 'imagenet2012'
  config.dataset.eval_split = 'validation'
  config.dataset.image_size = 224
  images = MODELS[config.model.name].published_input(network)
  config.dataset.mean = images['mean']
  config.dataset.std = images['std']
  config.checkpoint_every_steps = 2000

  recipe(config)
  if variant == '768_32':
    config.num_epochs = 300
  return config
