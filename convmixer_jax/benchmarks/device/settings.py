"""What the benchmark of an accelerator measures, in full and in small."""

import dataclasses
from collections.abc import Mapping, Sequence

from convmixer_jax.benchmarks.model_shapes import SHAPES, Shape

# Stages in their order, and the share of the budget that each may use; what one
# leaves, the next may use.
STAGES = {
  'machine': 0.08,
  'correctness': 0.09,
  'depthwise': 0.13,
  'models': 0.38,
  'cifar10': 0.18,
  'tests': 0.14,
}


@dataclasses.dataclass(frozen=True)
class DepthwiseShape:
  """A depthwise convolution.

  Attributes:
    batch: images.
    side: height and width.
    channels: of the images.
    kernel_size: side of the kernel.
  """

  batch: int
  side: int
  channels: int
  kernel_size: int

  @property
  def least_bytes(self) -> int:
    """Bytes that forward, and either gradient, has to move in bfloat16.

    It reads one array of the images' size and reads or writes another.
    """
    return 2 * 2 * self.batch * self.side**2 * self.channels

  def __str__(self) -> str:
    sizes = f'{self.batch},{self.side},{self.side},{self.channels}'
    return f'[{sizes}] k{self.kernel_size}'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes, counts and limits.

  Attributes:
    on_cpu: whether it may run where there is no accelerator.
    copy_mib: of the array that is copied.
    product_size: of the square matrices that are multiplied.
    checks: depthwise shapes that are compared with float64 on the host.
    depthwise: depthwise shapes that are timed, and compared with float32 on
      the device.
    turn_seconds: about how long one timing of a depthwise convolution takes.
    networks: by name, each with its batch.
    compiled: names of those that `torch.compile` is measured on.
    steps: of a network in each of three timings.
    limits: seconds after which a process of a contender is killed, by the name
      of the contender.
    least_seconds: no stage, and no program of one, is started with less.
    least_contender_seconds: nor is a contender on a network.
    cifar10: what is other than in configs/cifar10.py, by dotted key.
    cifar10_input: the split whose input is timed alone.
    cifar10_epochs: of the run.
    cifar10_images: images of each class in a data set made up for the run, of
      which a fifth are held out; 0: only real images will do.
  """

  on_cpu: bool
  copy_mib: int
  product_size: int
  checks: Sequence[DepthwiseShape]
  depthwise: Sequence[DepthwiseShape]
  turn_seconds: float
  networks: Mapping[str, Shape]
  compiled: Sequence[str]
  steps: int
  limits: Mapping[str, float]
  least_seconds: float
  least_contender_seconds: float
  cifar10: Mapping[str, int | str]
  cifar10_input: str
  cifar10_epochs: int
  cifar10_images: int


def _in_bfloat16(name, batch_size):
  return dataclasses.replace(
    SHAPES[name], batch_size=batch_size, dtype='bfloat16'
  )


# What a process may take in all. XLA needs half a minute to compile a training
# step of 32 blocks, torch.compile about as long, and cuDNN's choice between its
# algorithms takes long where all are slow.
_LIMITS = {
  'this project': 90.0,
  'this project, scan': 90.0,
  'plain Flax': 60.0,
  'PyTorch, eager': 40.0,
  'PyTorch, eager, NCHW': 40.0,
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
  turn_seconds=0.1,
  networks={
    '768/32': _in_bfloat16('768/32', 64),
    '1536/20': _in_bfloat16('1536/20', 64),
    '256/8': _in_bfloat16('256/8', 512),
    '1024/20': _in_bfloat16('1024/20', 64),
  },
  compiled=('768/32', '256/8'),
  steps=10,
  limits=_LIMITS,
  least_seconds=12.0,
  least_contender_seconds=20.0,
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
  turn_seconds=0.01,
  networks={
    '16/1, kernel 9': Shape(16, 1, 7, 9, 'relu', 10, 28, 4, 'bfloat16'),
    '16/1, kernel 5': Shape(16, 1, 2, 5, 'gelu', 10, 16, 8, 'bfloat16'),
  },
  compiled=('16/1, kernel 5',),
  steps=2,
  limits=dict.fromkeys(_LIMITS, 600.0),  # for machines however slow
  least_seconds=3.0,
  least_contender_seconds=3.0,
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
