"""Does steps of timm's ConvMixer in PyTorch, for `benchmarks.model`.

Runs under another Python, with `eager`, `eager_nchw` or `compile` as the
argument; needs only PyTorch, timm and this package on the PYTHONPATH. The
training step is forward, cross entropy, backward and AdamW in its fused form,
the fastest; images and weights are in channels_last, unless `eager_nchw` is
asked for. Forward is the network in evaluation. It runs on the GPU that PyTorch
sees, else on the CPU; bfloat16 is by autocast.
"""

import functools
import os
import platform
import sys
import tempfile

from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE, serve


def create(name: str, shape: dict[str, int | str]):
  """Returns `forward`, `train` and `matmul` steps, and the versions.

  Args:
    name: 'eager', 'eager_nchw', or 'compile'.
    shape: a `model_shapes.Shape`.
  """
  import timm
  import torch
  from timm.models.convmixer import ConvMixer

  torch.manual_seed(0)
  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  torch.backends.cudnn.benchmark = True  # of several algorithms, the fastest
  layout = torch.channels_last
  if name == 'eager_nchw':
    layout = torch.contiguous_format
  network = ConvMixer(
    shape['width'],
    shape['depth'],
    kernel_size=shape['kernel_size'],
    patch_size=shape['patch_size'],
    num_classes=shape['num_classes'],
    act_layer={'gelu': torch.nn.GELU, 'relu': torch.nn.ReLU}[
      shape['activation']
    ],
  ).to(device, memory_format=layout)
  optimizer = torch.optim.AdamW(network.parameters(), fused=True)
  size = (shape['batch_size'], 3, shape['image_size'], shape['image_size'])
  images = torch.randn(size).to(device, memory_format=layout)
  labels = torch.randint(shape['num_classes'], (shape['batch_size'],))
  labels = labels.to(device)
  matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE, device=device)
  mixed_precision = functools.partial(
    torch.autocast,
    device.type,
    torch.bfloat16,
    enabled=shape['dtype'] == 'bfloat16',
  )

  def compute_logits(images):
    with mixed_precision():
      return network(images)

  def compute_loss(images):
    logits = compute_logits(images).float()
    return torch.nn.functional.cross_entropy(logits, labels)

  logits_of, loss_of = compute_logits, compute_loss
  if name == 'compile':
    logits_of = torch.compile(compute_logits)
    loss_of = torch.compile(compute_loss)

  def wait():
    if device.type == 'cuda':
      torch.cuda.synchronize()

  def forward(count):
    network.eval()
    with torch.inference_mode():
      for _ in range(count):
        logits_of(images)
    wait()

  def train(count):
    network.train()
    for _ in range(count):
      loss = loss_of(images)
      loss.backward()
      optimizer.step()
      optimizer.zero_grad()
    wait()
    return lambda: {'loss': loss.item()} | _device_peak(device)

  def matmul(count):
    for _ in range(count):
      matrix @ matrix
    wait()

  versions = {
    'torch': torch.__version__,
    'timm': timm.__version__,
    'python': platform.python_version(),
  }
  kinds = {'matmul': matmul, 'forward': forward, 'train': train}
  about = {
    'versions': versions,
    'threads': torch.get_num_threads(),
    'device': 'cpu',
  }
  if device.type == 'cuda':
    about['device'] = torch.cuda.get_device_name(device)
  return kinds, about


def _device_peak(device):
  """The most memory of the device that was in use so far, on a GPU."""
  import torch

  if device.type != 'cuda':
    return {}
  return {'device_peak': torch.cuda.max_memory_allocated(device) / 2**20}


def main() -> None:
  """Answers requests, with a cache of its own: compiling is to take time."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = cache
    serve(lambda shape: create(sys.argv[1], shape))


if __name__ == '__main__':
  main()
