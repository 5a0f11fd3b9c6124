"""Times depthwise convolutions in PyTorch, in channels_last and in NCHW.

A program for another Python; it needs only PyTorch, and this package on the
PYTHONPATH. Request and answers are those of `depthwise_jax.py`; the variants
are 'PyTorch NHWC' and 'PyTorch NCHW'.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from convmixer_jax.benchmarks.device import depthwise_cases, streaming


def _time(case, turn_seconds, buffers):
  import torch

  shape = case['shape']
  nhwc = case['variant'] == 'PyTorch NHWC'
  images, gradients, kernel = buffers(shape, nhwc)
  call = _create_call(case['product'], shape, kernel)

  def run_turns(turns):
    for _ in range(turns):
      for x, dy in zip(images, gradients, strict=True):
        result = call(x, dy)
    return result

  wait = _wait if images[0].is_cuda else lambda: None
  start = time.perf_counter()
  result = run_turns(1)
  wait()
  first = time.perf_counter()
  run_turns(1)
  wait()
  seconds = time.perf_counter() - first
  count = depthwise_cases.count_calls(seconds, turn_seconds)
  turns = []
  for _ in range(depthwise_cases.count_turns(seconds / len(images))):
    if images[0].is_cuda:
      begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
      begin.record()
      run_turns(count)
      end.record()
      end.synchronize()
      elapsed = begin.elapsed_time(end) / 1e3
    else:
      start_of_turn = time.perf_counter()
      run_turns(count)
      elapsed = time.perf_counter() - start_of_turn
    turns.append(elapsed / count / len(images))
  return {
    'microseconds': 1e6 * statistics.median(turns),
    'finite': bool(torch.isfinite(result.flatten()[0]).item()),
    'first_call_seconds': first - start,
  }


def _wait():
  import torch

  torch.cuda.synchronize()


def _create_call(
  product: str, shape: dict[str, int], kernel: Any
) -> Callable[[Any, Any], Any]:
  import torch

  padding = shape['kernel_size'] // 2
  if product == 'forward':

    def forward(x, dy):
      return torch.nn.functional.conv2d(
        x, kernel, padding=padding, groups=shape['channels']
      )

    return forward
  wanted = [product == 'input gradient', product == 'kernel gradient', False]

  def backward(x, dy):
    gradients = torch.ops.aten.convolution_backward(
      dy,
      x,
      kernel,
      None,  # sizes of the bias
      [1, 1],
      [padding, padding],
      [1, 1],
      False,
      [0, 0],
      shape['channels'],
      wanted,
    )
    return gradients[wanted.index(True)]

  return backward


def _create_buffers() -> Callable[[dict[str, int], bool], Any]:
  """Returns a function that draws the arrays of a shape, with a cache."""
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.backends.cudnn.benchmark = True  # choose the fastest algorithm
  torch.manual_seed(0)
  cached: dict[str, Any] = {}

  def draw(size, layout):
    array = torch.randn(size, device=device, dtype=torch.bfloat16)
    return array.contiguous(memory_format=layout)

  def buffers(shape, nhwc):
    key = f'{shape} {nhwc}'
    if key not in cached:
      cached.clear()
      layout = torch.channels_last if nhwc else torch.contiguous_format
      size = (shape['batch'], shape['channels'], *[shape['side']] * 2)
      count = depthwise_cases.BUFFERS
      arrays = [draw(size, layout) for _ in range(2 * count)]
      kernel_size = (shape['channels'], 1, *[shape['kernel_size']] * 2)
      kernel = draw(kernel_size, layout)
      cached[key] = arrays[:count], arrays[count:], kernel
    return cached[key]

  return buffers


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  import torch

  buffers = _create_buffers()

  def measure(case):
    with torch.inference_mode():
      return _time(case, request['turn_seconds'], buffers)

  return depthwise_cases.time_all(request, measure)


if __name__ == '__main__':
  streaming.serve(_work)
