"""Trains small networks by each recipe, on imagenette: results/recipes.

  python scripts/train_recipes.py --data_dir=DATA [--output=results/recipes] \
    [--recipes=deit_b,resmlp_s24]

DATA is where `convmixer prepare imagenette/full-size-v2` put its images. Each
recipe is that of configs/imagenet.py but for the size of network, images and
batch, the images that share statistics and mixup, the number of epochs, and
what follows from these: the warm-up is a fifteenth of the run, the learning
rate of torchvision's recipe is halved, and ResMLP's scales start from 0.1. Its
augmentation, loss, optimizer, schedule, weight decay and repeated augmentation
stay as they are. One CPU core takes some minutes for each.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

import ml_collections

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from configs import imagenet  # noqa: E402
from convmixer_jax.training.loop import train_and_evaluate  # noqa: E402

KEPT = ('metrics.csv', 'config.json', 'versions.json', 'curves.png')
BATCH, GROUP = 64, 16
TOKENS = {'width': 96, 'depth': 4, 'patch_size': 8}
RESNET = {'depths': (1, 1, 1, 1), 'widths': (16, 32, 64, 128)}
# Fields of the network, epochs, and the factor of the learning rate.
RUNS = {
  'deit_b': ({**TOKENS, 'heads': 3}, 40, 1.0),
  'resmlp_b24_8': ({**TOKENS, 'layer_scale': 0.1}, 40, 1.0),
  'resnet152': (RESNET, 24, 1.0),
  'resnet152_a1': (RESNET, 24, 1.0),
  'resnet152_a2': (RESNET, 24, 1.0),
  'resnet152_a3': (RESNET, 24, 1.0),
  'resnet152_tv': (RESNET, 24, 0.5),
}


def small_config(variant: str, data_dir: str) -> ml_collections.ConfigDict:
  """Returns the recipe of a variant, for a small network and few images.

  Args:
    variant: one of `RUNS`.
    data_dir: of the data set.
  """
  fields, epochs, rate = RUNS[variant]
  config = imagenet.get_config(variant)
  config.dtype = 'float32'
  for name, value in fields.items():
    config.model[name] = value
  config.dataset.name = 'imagenette/full-size-v2'
  config.dataset.data_dir = data_dir
  larger = config.augment.eval_image_size > config.dataset.image_size
  config.dataset.image_size = 64
  config.augment.eval_image_size = 88 if larger else 0
  config.batch_size, config.num_epochs = BATCH, epochs
  if config.mixup.group_size:
    config.mixup.group_size = GROUP
  if config.model.get('bn_group_size'):
    config.model.bn_group_size = BATCH
  if config.warmup_epochs:
    config.warmup_epochs = epochs / 15
  if config.schedule == 'step':
    config.step_epochs = epochs / 3
  config.learning_rate *= rate
  config.eval_every_epochs = max(epochs // 4, 1)
  config.log_every_steps = 90
  return config


def main() -> None:
  """Trains each recipe, and keeps metrics, config and curves of its run.

  Not its checkpoints.
  """
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data_dir', required=True)
  parser.add_argument('--output', default='results/recipes')
  parser.add_argument('--recipes', default=','.join(RUNS))
  flags = parser.parse_args()
  for variant in flags.recipes.split(','):
    config = small_config(variant, flags.data_dir)
    output = pathlib.Path(flags.output) / variant
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
      results = train_and_evaluate(config, directory)
      for name in KEPT:
        shutil.copy(pathlib.Path(directory) / name, output)
    print(f'{variant}: {results["eval_accuracy"]:.2%} of held-out images')


if __name__ == '__main__':
  main()
