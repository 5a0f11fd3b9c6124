"""Settings of the benchmark of an accelerator: full, and quick for a test."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from convmixer_jax.benchmarks.benchmark_cases import (
  CASES,
  BenchmarkCase,
  all_cases,
  create_convmixer_case,
  is_convmixer,
)
from convmixer_jax.benchmarks.comparison.paper import PAPER

# Stages in their order, and their shares of the budget; the next stage may use
# the time that a stage leaves. What is wanted most comes first; the last three
# have what the others leave, but for the seconds in which networks are counted.
STAGES = {
  'machine': 0.03,
  'correctness': 0.1,
  'tests': 0.03,
  'depthwise': 0.06,
  'models': 0.54,
  'cifar10': 0.2,
  'alternatives': 0.005,
  'networks': 0.005,
  'comparison': 0.03,
}


@dataclasses.dataclass(frozen=True)
class DepthwiseShape:
  """The shape of a depthwise convolution.

  Attributes:
    batch: number of images.
    side: height and width of the images.
    channels: channels of the images.
    kernel_size: side of the kernel.
  """

  batch: int
  side: int
  channels: int
  kernel_size: int

  @property
  def min_bytes(self) -> int:
    """Bytes that forward, or one gradient, must read and write in bfloat16.

    It reads one array of the size of the images, and reads or writes another.
    """
    return 2 * 2 * self.batch * self.side**2 * self.channels

  def __str__(self) -> str:
    sizes = f'{self.batch},{self.side},{self.side},{self.channels}'
    return f'[{sizes}] k{self.kernel_size}'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes, counts and limits.

  Attributes:
    on_cpu: whether to run without an accelerator.
    copy_mib: size of the array that is copied.
    product_size: side of the square matrices that are multiplied.
    checks: depthwise shapes that are compared with float64 on the host.
    depthwise: depthwise shapes that are timed, and compared with float32 on
      the device.
    compared: how many of these are timed in PyTorch, too, before the networks
      are measured; the others are after them.
    turn_seconds: approximate duration of one timing of a depthwise convolution.
    shape_seconds: seconds after which the program that times one convolution
      by another implementation is killed.
    networks: ConvMixers and their batches by name.
    others: returns other networks and their batches by name; a function,
      because their fields are found by importing JAX.
    inference: networks and batches by name, of which only inference is timed.
    compiled: names of the networks that `torch.compile` is measured on.
    profiled: names of the networks of which a training step of this project is
      divided among its kernels, on a GPU.
    steps: number of steps in each of the three timings of a network.
    timing_seconds: about the time for all steps of one kind.
    limits: seconds after which the processes of a framework are killed.
    min_seconds: remaining time without which no stage or program is started.
    min_process_seconds: the same for the process of a framework.
    comparison: flags of `convmixer compare`: which networks, and how.
    cifar10: changes of configs/cifar10.py, by dotted key.
    cifar10_input: the split with which the input alone is timed.
    cifar10_epochs: number of epochs.
    cifar10_images: images per class of a synthetic data set, a fifth of which
      are for test; 0: use real images only.
  """

  on_cpu: bool
  copy_mib: int
  product_size: int
  checks: Sequence[DepthwiseShape]
  depthwise: Sequence[DepthwiseShape]
  compared: int
  turn_seconds: float
  shape_seconds: float
  networks: Mapping[str, BenchmarkCase]
  others: Callable[[], Mapping[str, BenchmarkCase]]
  inference: Mapping[str, BenchmarkCase]
  compiled: Sequence[str]
  profiled: Sequence[str]
  steps: int
  timing_seconds: float
  limits: Mapping[str, float]
  min_seconds: float
  min_process_seconds: float
  comparison: Sequence[str]
  cifar10: Mapping[str, int | str]
  cifar10_input: str
  cifar10_epochs: int
  cifar10_images: int


def _in_bfloat16(name, batch_size):
  return dataclasses.replace(
    CASES[name], batch_size=batch_size, dtype='bfloat16'
  )


def _others_of_the_paper():
  """Returns the networks that the paper compares ConvMixer with."""
  cases = all_cases()
  return {
    name: dataclasses.replace(cases[name], batch_size=64, dtype='bfloat16')
    for name in PAPER
    if name in cases and not is_convmixer(cases[name])
  }


def _tiny_others():
  fields = {'width': 16, 'depth': 1, 'patch_size': 4}
  batch = {'num_classes': 10, 'image_size': 16, 'batch_size': 8}
  return {'ViT-16/1': BenchmarkCase('vit', fields, **batch, dtype='bfloat16')}


_tiny = functools.partial(
  create_convmixer_case, num_classes=10, dtype='bfloat16'
)


# Total time of the processes of a framework. The first step of 256/8 took 27 s
# on an H100; networks are compiled at the same time. cuDNN takes long to choose
# between its algorithms where all are slow.
_LIMITS = {
  'this project': 140.0,
  'this project, scan': 75.0,
  'plain Flax': 110.0,
  'plain Flax, scan': 60.0,
  'PyTorch, eager': 75.0,
  'PyTorch, compile': 75.0,
}

FULL = Settings(
  on_cpu=False,
  copy_mib=1024,
  product_size=8192,
  checks=(
    DepthwiseShape(16, 32, 64, 7),
    DepthwiseShape(16, 16, 64, 9),
    DepthwiseShape(3, 7, 24, 3),
    DepthwiseShape(2, 9, 16, 8),
  ),
  depthwise=(
    DepthwiseShape(64, 32, 1536, 9),
    DepthwiseShape(64, 32, 768, 7),
    DepthwiseShape(64, 16, 1024, 9),
    DepthwiseShape(512, 16, 256, 5),
  ),
  compared=2,
  turn_seconds=0.1,
  shape_seconds=25.0,
  networks={
    '768/32': _in_bfloat16('768/32', 64),
    '1536/20': _in_bfloat16('1536/20', 64),
    '256/8': _in_bfloat16('256/8', 512),
    '1024/20': _in_bfloat16('1024/20', 64),
  },
  others=_others_of_the_paper,
  inference={
    '1536/20, batch 256': _in_bfloat16('1536/20', 256),
    '1536/20, batch 1': _in_bfloat16('1536/20', 1),
  },
  compiled=('768/32', '256/8'),
  profiled=('768/32', '1536/20'),
  steps=10,
  timing_seconds=4.0,
  limits=_LIMITS,
  min_seconds=12.0,
  min_process_seconds=20.0,
  comparison=('--models=paper', '--batch_size=64', '--dtype=bfloat16'),
  cifar10={},
  cifar10_input='train[:16%]',
  cifar10_epochs=25,
  cifar10_images=0,
)

QUICK = Settings(
  on_cpu=True,
  copy_mib=16,
  product_size=256,
  checks=(DepthwiseShape(2, 6, 24, 5), DepthwiseShape(2, 5, 8, 4)),
  depthwise=(DepthwiseShape(2, 8, 64, 5),),
  compared=1,
  turn_seconds=0.01,
  shape_seconds=600.0,  # for slow machines
  networks={
    '16/1, kernel 9': _tiny(16, 1, 7, 9, 'relu', image_size=28, batch_size=4),
    '16/1, kernel 5': _tiny(16, 1, 2, 5, image_size=16, batch_size=8),
  },
  others=_tiny_others,
  inference={},
  compiled=('16/1, kernel 5',),
  profiled=(),
  steps=2,
  timing_seconds=60.0,
  limits=dict.fromkeys(_LIMITS, 600.0),
  min_seconds=3.0,
  min_process_seconds=3.0,
  comparison=(
    *('--models=resmlp_s12', '--image_size=32', '--batch_size=2'),
    '--dtype=bfloat16',
  ),
  cifar10={
    'model.width': 16,
    'model.depth': 2,
    'batch_size': 64,
    'log_every_steps': 2,
  },
  cifar10_input='train',
  cifar10_epochs=2,
  cifar10_images=40,
)
