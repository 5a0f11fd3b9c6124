"""Trains here and in PyTorch, from the same weights on the same batches.

    pip install torch timm==1.0.31     # in another environment
    python scripts/train_beside_pytorch.py --torch_python=ENV/bin/python \
        --data_dir=DIR --width=64 --depth=4 --num_steps=97

The recipe of CIFAR-10 for 10 epochs, in float32. Prints the loss of both for
some steps. The batches are those of train.py; network, BatchNorm, loss, AdamW
with weight decay of all parameters, and schedule are implemented separately.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from train_cifar10_in_pytorch import MEAN, PEAK, STD, create_parser

NUM_EPOCHS, STEPS_PER_EPOCH = 10, 97
PRINTED = (1, 2, 3, 5, 10, 20, 40, 60, 80)


def train_here(arguments, path):
  """Returns the losses; writes the initial weights and the batches."""
  import jax

  sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
  from configs import cifar10
  from convmixer_jax.data import pipeline, sources
  from convmixer_jax.models import ConvMixer
  from convmixer_jax.models.convmixer import state_dict as layouts
  from convmixer_jax.training import steps
  from convmixer_jax.training.optimizer import create_optimizer
  from convmixer_jax.training.schedules import create_schedule

  config = cifar10.get_config()
  config.dataset.data_dir = arguments.data_dir
  config.num_epochs = NUM_EPOCHS
  model = ConvMixer(
    arguments.width,
    arguments.depth,
    patch_size=2,
    kernel_size=5,
    num_classes=10,
  )
  schedule = create_schedule(
    config, STEPS_PER_EPOCH, NUM_EPOCHS * STEPS_PER_EPOCH
  )
  optimizer = create_optimizer(config, schedule)
  state = jax.jit(lambda: steps.create_state(model, optimizer, config))()
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  arrays = layouts.to_timm(jax.device_get(variables))
  train_step = jax.jit(
    steps.make_train_step(model, optimizer, schedule, config)
  )
  source = sources.create_source(config.dataset, config.dataset.train_split)
  batches = pipeline.train_batches(source, config)
  losses, images, labels = [], [], []
  for _, batch in zip(range(arguments.num_steps), batches, strict=False):
    state, metrics = train_step(state, batch)
    losses.append(float(metrics.train_loss.compute()))
    images.append(batch['image'])
    labels.append(batch['label'])
  np.savez(path, image=np.stack(images), label=np.stack(labels), **arrays)
  return losses


def train_in_pytorch(path, width, depth):
  """Prints the losses."""
  import torch
  from timm.models.convmixer import ConvMixer
  from torch.nn.functional import cross_entropy

  with np.load(path) as file:
    arrays = dict(file)
  batches = zip(arrays.pop('image'), arrays.pop('label'), strict=True)
  network = ConvMixer(width, depth, kernel_size=5, patch_size=2, num_classes=10)
  network.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()})
  network.train().to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(network.parameters(), PEAK, weight_decay=0.005)
  mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
  epochs = [0, NUM_EPOCHS * 2 // 5, NUM_EPOCHS * 4 // 5, NUM_EPOCHS]
  for step, (images, labels) in enumerate(batches, start=1):
    rates = [0, PEAK, PEAK / 20, 0]
    rate = np.interp(step / STEPS_PER_EPOCH, epochs, rates)
    optimizer.param_groups[0]['lr'] = float(rate)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    images = ((images - mean) / std).contiguous(
      memory_format=torch.channels_last
    )
    loss = cross_entropy(network(images), torch.from_numpy(labels).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())


def main():
  parser = create_parser(__doc__.splitlines()[0])
  parser.add_argument('--num_steps', type=int, default=97)
  parser.add_argument('--arrays', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.arrays:
    train_in_pytorch(arguments.arrays, arguments.width, arguments.depth)
    return
  with tempfile.TemporaryDirectory() as directory:
    arrays = str(pathlib.Path(directory) / 'arrays.npz')
    ours = train_here(arguments, arrays)
    command = [arguments.torch_python, __file__, *sys.argv[1:]]
    done = subprocess.run(
      [*command, f'--arrays={arrays}'],
      check=True,
      stdout=subprocess.PIPE,
      text=True,
    )
  theirs = [float(line) for line in done.stdout.splitlines()]
  print('step  loss: this project   PyTorch')
  for step, pair in enumerate(zip(ours, theirs, strict=True), start=1):
    if step in PRINTED or step == arguments.num_steps:
      print(f'{step:4d}  {pair[0]:18.6f}  {pair[1]:8.6f}')
  difference = np.abs(np.subtract(ours, theirs)).max()
  print(f'largest difference in {arguments.num_steps} steps: {difference:.1e}')


if __name__ == '__main__':
  main()
