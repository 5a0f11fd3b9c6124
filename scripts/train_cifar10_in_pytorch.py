"""Trains the CIFAR-10 recipe in PyTorch, on the same images as train.py.

    pip install torch torchvision timm==1.0.31     # in another environment
    python scripts/train_cifar10_in_pytorch.py --torch_python=ENV/bin/python \
        --data_dir=DIR --width=64 --depth=4 --num_epochs=10

For comparison with the log of train.py: network, augmentation and optimizer are
those of timm, torchvision and PyTorch, in float32.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
PEAK = 0.05
BATCH_SIZE = 512


def write_images(data_dir, path):
  """Writes the images and labels of both splits as arrays."""
  import tensorflow_datasets as tfds

  arrays = {}
  for split, source in tfds.data_source('cifar10', data_dir=data_dir).items():
    records = [source[number] for number in range(len(source))]
    arrays[f'{split}/image'] = np.stack([r['image'] for r in records])
    arrays[f'{split}/label'] = np.array([r['label'] for r in records], np.int64)
  np.savez(path, **arrays)


def train(path, width, depth, num_epochs):
  """Trains, and prints a line after each epoch."""
  import torch
  from PIL import Image
  from timm.models.convmixer import ConvMixer
  from torch.nn.functional import cross_entropy
  from torchvision import transforms

  torch.manual_seed(0)
  torch.set_num_threads(2)
  with np.load(path) as arrays:
    data = dict(arrays)
  augment = transforms.Compose(
    [
      transforms.RandomHorizontalFlip(),
      transforms.RandAugment(num_ops=2, magnitude=12),
      transforms.PILToTensor(),
    ]
  )
  train_set = [
    *zip(data['train/image'], data['train/label'].tolist(), strict=True)
  ]
  loader = torch.utils.data.DataLoader(
    train_set,
    BATCH_SIZE,
    shuffle=True,
    drop_last=True,
    num_workers=1,
    collate_fn=lambda pairs: (
      torch.stack([augment(Image.fromarray(image)) for image, _ in pairs]),
      torch.tensor([label for _, label in pairs]),
    ),
  )
  mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))

  def classify(images):
    images = (images.float() - mean) / std
    return network(images.contiguous(memory_format=torch.channels_last))

  network = ConvMixer(width, depth, kernel_size=5, patch_size=2, num_classes=10)
  network = network.to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(network.parameters(), PEAK, weight_decay=0.005)
  epochs = [0, num_epochs * 2 // 5, num_epochs * 4 // 5, num_epochs]
  for epoch in range(num_epochs):
    network.train()
    losses, correct = [], []
    for step, (images, labels) in enumerate(loader, start=1):
      rate = np.interp(
        epoch + step / len(loader), epochs, [0, PEAK, PEAK / 20, 0]
      )
      optimizer.param_groups[0]['lr'] = float(rate)
      logits = classify(images)
      loss = cross_entropy(logits, labels)
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
      losses.append(loss.item())
      correct.append((logits.argmax(1) == labels).float().mean().item())
    network.eval()
    images = torch.from_numpy(data['test/image']).permute(0, 3, 1, 2)
    with torch.no_grad():
      predicted = torch.cat(
        [classify(part).argmax(1) for part in images.split(500)]
      )
    accuracy = (predicted.numpy() == data['test/label']).mean()
    print(
      f'epoch {epoch + 1}  train_loss {np.mean(losses):.4f}  '
      f'train_accuracy {np.mean(correct):.4f}  eval_accuracy {accuracy:.4f}',
      flush=True,
    )


def create_parser(description):
  """Returns a parser with the flags of all comparisons with PyTorch."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument(
    '--torch_python', help='Python interpreter with PyTorch and timm'
  )
  parser.add_argument('--data_dir', help='directory of TFDS with cifar10')
  parser.add_argument('--width', type=int, default=256)
  parser.add_argument('--depth', type=int, default=8)
  return parser


def main():
  parser = create_parser(__doc__.splitlines()[0])
  parser.add_argument('--num_epochs', type=int, default=25)
  parser.add_argument('--images', type=pathlib.Path, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  sizes = arguments.width, arguments.depth, arguments.num_epochs
  if arguments.images:
    train(arguments.images, *sizes)
    return
  with tempfile.TemporaryDirectory() as directory:
    images = pathlib.Path(directory) / 'images.npz'
    write_images(arguments.data_dir, images)
    flags = [*sys.argv[1:], f'--images={images}']
    subprocess.run([arguments.torch_python, __file__, *flags], check=True)


if __name__ == '__main__':
  main()
