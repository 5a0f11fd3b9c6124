"""Runs steps of timm's networks in PyTorch, for `benchmarks.model`.

Another Python runs this, with `eager`, `eager_nchw` or `compile` as the
argument; it needs only PyTorch, timm and this package on the PYTHONPATH. The
training step is forward pass, cross entropy, backward pass and fused AdamW, the
fastest; images and weights are in channels_last, except for `eager_nchw`. The
forward step is the network in evaluation. It runs on the GPU if PyTorch finds
one, else on the CPU; bfloat16 uses autocast.
"""

import functools
import os
import platform
import sys
import tempfile
from typing import Any

from convmixer_jax.benchmarks.model_worker import MATMUL_SIZE, Steps, serve


def create(
  name: str, case: dict[str, Any]
) -> tuple[dict[str, Steps], dict[str, Any]]:
  """Returns `forward`, `train` and `matmul` steps, and the versions.

  Args:
    name: 'eager', 'eager_nchw', or 'compile'.
    case: fields of a `benchmark_cases.BenchmarkCase`, and as `timm` what
      `timm_network.find_in_timm` found.
  """
  import timm
  import torch

  torch.manual_seed(0)
  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  torch.backends.cudnn.benchmark = True  # choose the fastest algorithm
  layout = torch.channels_last
  if name == 'eager_nchw':
    layout = torch.contiguous_format
  network = _create_network(case).to(device, memory_format=layout)
  optimizer = torch.optim.AdamW(network.parameters(), fused=True)
  size = (case['batch_size'], 3, case['image_size'], case['image_size'])
  images = torch.randn(size).to(device, memory_format=layout)
  labels = torch.randint(case['num_classes'], (case['batch_size'],))
  labels = labels.to(device)
  matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE, device=device)
  mixed_precision = functools.partial(
    torch.autocast,
    device.type,
    torch.bfloat16,
    enabled=case['dtype'] == 'bfloat16',
  )

  def compute_logits(images):
    with mixed_precision():
      return network(images)

  def compute_loss(images):
    logits = compute_logits(images).float()
    return torch.nn.functional.cross_entropy(logits, labels)

  logits_function, loss_function = compute_logits, compute_loss
  if name == 'compile':
    logits_function = torch.compile(compute_logits)
    loss_function = torch.compile(compute_loss)

  def wait():
    if device.type == 'cuda':
      torch.cuda.synchronize()

  def forward(count):
    network.eval()
    with torch.inference_mode():
      for _ in range(count):
        logits_function(images)
    wait()

  def train(count):
    network.train()
    for _ in range(count):
      loss = loss_function(images)
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


def _create_network(case):
  """Creates the network as `timm_network` of this project says."""
  names: dict[str, Any] = {}
  exec(case['timm']['imports'], names)
  network = eval(case['timm']['creation'], names)
  blocks = case['timm'].get('blocks')
  if blocks is not None:
    network.blocks = network.blocks[:blocks]
  return network


def _device_peak(device):
  """Returns the peak memory of a GPU so far."""
  import torch

  if device.type != 'cuda':
    return {}
  return {'device_peak': torch.cuda.max_memory_allocated(device) / 2**20}


def main() -> None:
  """Answers requests, with an empty cache, so that compilation is measured."""
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
    os.environ['TORCHINDUCTOR_CACHE_DIR'] = cache
    serve(lambda case: create(sys.argv[1], case))


if __name__ == '__main__':
  main()
