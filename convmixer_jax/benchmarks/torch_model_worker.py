"""Does steps of timm's ConvMixer in PyTorch, for `benchmarks.model`.

Runs under another Python, by path, with `eager` or `compile` as the argument;
needs only PyTorch and timm. The training step is forward, cross entropy,
backward and AdamW, whose fused form is its fastest on a CPU; images and
weights are in channels_last. Forward is the network in evaluation.
"""

import os
import platform
import sys
import tempfile

from model_worker import MATMUL_SIZE, serve


def create(name: str, shape: dict[str, int | str]):
  """Returns `forward`, `train` and `matmul` steps, and the versions.

  Args:
    name: 'eager' or 'compile'.
    shape: a `model_shapes.Shape`.
  """
  import timm
  import torch
  from timm.models.convmixer import ConvMixer

  torch.manual_seed(0)
  network = ConvMixer(
    shape['width'],
    shape['depth'],
    kernel_size=shape['kernel_size'],
    patch_size=shape['patch_size'],
    num_classes=shape['num_classes'],
    act_layer={'gelu': torch.nn.GELU, 'relu': torch.nn.ReLU}[
      shape['activation']
    ],
  ).to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(network.parameters(), fused=True)
  size = (shape['batch_size'], 3, shape['image_size'], shape['image_size'])
  images = torch.randn(size).to(memory_format=torch.channels_last)
  labels = torch.randint(shape['num_classes'], (shape['batch_size'],))
  matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE)

  def loss_of(images):
    return torch.nn.functional.cross_entropy(network(images), labels)

  logits_of = network
  if name == 'compile':
    loss_of, logits_of = torch.compile(loss_of), torch.compile(network)

  def forward(count):
    network.eval()
    with torch.inference_mode():
      for _ in range(count):
        logits_of(images)

  def train(count):
    network.train()
    for _ in range(count):
      loss_of(images).backward()
      optimizer.step()
      optimizer.zero_grad()

  def matmul(count):
    for _ in range(count):
      matrix @ matrix

  versions = {
    'torch': torch.__version__,
    'timm': timm.__version__,
    'python': platform.python_version(),
  }
  kinds = {'matmul': matmul, 'forward': forward, 'train': train}
  return kinds, {'versions': versions, 'threads': torch.get_num_threads()}


def main() -> None:
  """Answers requests, with a cache of its own: compiling is to take time."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = cache
    serve(lambda shape: create(sys.argv[1], shape))


if __name__ == '__main__':
  main()
