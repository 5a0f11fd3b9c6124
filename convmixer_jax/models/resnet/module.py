"""ResNet with bottleneck blocks (arXiv 1512.03385), in Flax.

stem: conv 7 x 7, stride 2 -> BatchNorm -> ReLU -> max pool 3 x 3, stride 2
four stages of blocks: ReLU(shortcut(x) + (conv 1 x 1 -> BatchNorm -> ReLU
  -> conv 3 x 3 -> BatchNorm -> ReLU -> conv 1 x 1 -> BatchNorm))
head: mean over space -> dense

In the first block of a stage the shortcut is a convolution and BatchNorm, in
the others the identity. The stride of a stage is that of the 3 x 3 convolution,
as in torchvision and timm; in the paper it is that of the first 1 x 1.
"""

from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax import kernels
from convmixer_jax.models.batch_norm import BatchNorm
from convmixer_jax.models.fields import check_fields
from convmixer_jax.models.layers import (
  Dense,
  GatherFn,
  create_block,
  drop_path,
  expose,
  uniform_init,
)
from convmixer_jax.models.resnet.fields import FIELDS

STEM_WIDTH = 64
EXPANSION = 4  # outputs of a block for each channel inside
STRIDES = 1, 2, 2, 2
STAGES = range(1, len(STRIDES) + 1)

# Collections whose arrays have a leading axis for the blocks.
_BY_BLOCK = 'params', 'batch_stats', 'intermediates', 'perturbations'
_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def first_block(stage: int) -> str:
  """Returns the name of the module of a stage's first block."""
  return f'stage{stage}_block1'


def equal_blocks(stage: int) -> str:
  """Returns the name of the module of a stage's other blocks, if any."""
  return f'stage{stage}_blocks'


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  backend: str | None = None,
) -> jax.Array:
  """Computes a convolution that keeps the size of the image, for stride 1.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[k, k, I, O]`, k odd.
    stride: of both axes.
    backend: see `kernels.linear` and `kernels.conv`.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), O]`.
  """
  size = kernel.shape[0]
  if size > 1:
    return kernels.conv(
      x, kernel, stride=stride, padding=size // 2, backend=backend
    )
  return kernels.linear(x[:, ::stride, ::stride], kernel[0, 0], backend=backend)


class Conv(nn.Module):
  """A convolution without bias; see `convolve`."""

  features: int
  size: int
  stride: int = 1
  backend: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, h, w, features]`."""
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', _INIT, shape)
    y = convolve(x, kernel, self.stride, self.backend)
    return checkpoint_name(y, kernels.SAVED_ACTIVATION)


class Bottleneck(nn.Module):
  """A block: `ReLU(shortcut(x) + branch(x))`."""

  width: int
  stride: int
  projects: bool  # whether the shortcut is a convolution
  train: bool
  drops: bool
  bn_group_size: int
  backend: str | None

  @nn.compact
  def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
    """Maps `[B, H, W, C]` to `[B, h, w, 4 * width]`.

    Args:
      x: the image.
      rate: of drop path.
    """
    conv = partial(Conv, backend=self.backend)

    def norm(name, relu=True, **fields):
      module = BatchNorm(
        relu, self.bn_group_size, self.backend, name=name, **fields
      )
      return partial(module, train=self.train)

    outputs = EXPANSION * self.width
    shortcut = x
    if self.projects:
      shortcut = conv(outputs, 1, self.stride, name='downsample')(x)
      shortcut = norm('downsample_bn', relu=False)(shortcut)
    y = norm('bn1')(conv(self.width, 1, name='conv1')(x))
    y = norm('bn2')(conv(self.width, 3, self.stride, name='conv2')(y))
    y = conv(outputs, 1, name='conv3')(y)
    last = norm('bn3', not self.drops, scale_init=nn.initializers.zeros)
    if self.drops:
      branch = drop_path(last(y), rate, self.make_rng('dropout'))
      x = jax.nn.relu(shortcut + branch)
    else:
      x = last(y, shortcut)
    return expose(self, 'output', x), None


class ResNet(nn.Module):
  """ResNet of bottleneck blocks, in four stages.

  The parameters of the equal blocks of a stage, which are all but its first,
  are stacked along a leading axis, whether they run as a loop or unrolled, so a
  checkpoint serves both. With `mutable=['intermediates']`, `apply` also returns
  the outputs of the stem, `['stem'][0]`, and of the blocks;
  `models.features` names them.

  Attributes:
    depths: blocks of each stage.
    widths: channels of each stage's 3 x 3 convolutions.
    num_classes: outputs of the head.
    dtype: compute dtype; parameters and statistics are float32.
    bn_group_size: images that share BatchNorm statistics, 0 for all.
    drop_path: probability, in training, of dropping the branch of the last
      block, from 0 for the first, linear over the blocks. Draws from `dropout`.
    backend: of the convolutions, max pooling, and BatchNorm in training, or
      None for the platform's default; see `kernels.conv`, `kernels.max_pool`
      and `kernels.batch_norm`.
    scan: compile one of equal blocks and loop over it, instead of copies.
    remat: recompute the blocks' insides in the backward pass, for memory.
    gather: function that the parameters of each stacked block pass before use,
      or None.

  Raises:
    UserError: a field is out of range (on construction).
  """

  depths: tuple[int, int, int, int]
  widths: tuple[int, int, int, int]
  num_classes: int = 1000
  dtype: jnp.dtype = jnp.float32
  bn_group_size: int = 0
  drop_path: float = 0.0
  backend: str | None = None
  scan: bool = False
  remat: bool = False
  gather: GatherFn | None = None

  def __post_init__(self):
    check_fields(FIELDS, self)
    # JSON has lists, which cannot be hashed.
    self.depths, self.widths = tuple(self.depths), tuple(self.widths)
    super().__post_init__()

  @property
  def size_name(self) -> str:
    """The number of layers with weights, by which ResNets are called."""
    return str(3 * sum(self.depths) + 2)

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Classifies images.

    Args:
      images: `[B, H, W, C]`, normalised, any height and width.
      train: whether BatchNorm uses the statistics of this batch, and branches
        are dropped.

    Returns:
      Logits `[B, num_classes]`, float32. With `mutable='intermediates'` also
      the input of the head, `['intermediates']['features'][0]`:
      `[B, 4 * widths[-1]]`.
    """
    x = images.astype(self.dtype)
    x = Conv(STEM_WIDTH, 7, 2, self.backend, name='conv1')(x)
    norm = BatchNorm(True, self.bn_group_size, self.backend, name='bn1')
    x = norm(x, train=train)
    x = expose(self, 'stem', kernels.max_pool(x, backend=self.backend))
    rates = self._drop_path_rates()
    for stage in STAGES:
      x = self._run_stage(x, stage, next(rates), train=train)
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    self.sow('intermediates', 'features', pooled)
    init = uniform_init(pooled.shape[-1])
    return Dense(self.num_classes, init, init, name='head')(pooled)

  def _drop_path_rates(self) -> Iterator[np.ndarray]:
    """Yields the rates of each stage's blocks, float32."""
    rates = np.linspace(0, self.drop_path, sum(self.depths), dtype=np.float32)
    yield from np.split(rates, np.cumsum(self.depths)[:-1])

  def _run_stage(self, x, stage, rates, *, train):
    policy = None
    if self.remat or self.scan or self.gather is not None:
      # If unrolled, XLA finds what is cheap to compute again; a loop saves what
      # autodiff decides, and so do blocks that gather their parameters.
      policy = jax.checkpoint_policies.save_only_these_names(
        *([] if self.remat else [kernels.SAVED_ACTIVATION])
      )
    fields = {
      'width': self.widths[stage - 1],
      'train': train,
      'drops': train and self.drop_path > 0,
      'bn_group_size': self.bn_group_size,
      'backend': self.backend,
    }
    first = Bottleneck
    if policy is not None:
      first = nn.remat(Bottleneck, policy=policy)
    x, _ = first(
      **fields,
      stride=STRIDES[stage - 1],
      projects=True,
      name=first_block(stage),
    )(x, jnp.asarray(rates[0]))
    length = len(rates) - 1
    if not length:
      return x
    blocks = nn.scan(
      create_block(
        Bottleneck, gather=self.gather, policy=policy, scan=self.scan
      ),
      variable_axes=dict.fromkeys(_BY_BLOCK, 0),
      split_rngs={'params': True, 'dropout': True},
      length=length,
      unroll=1 if self.scan else length,
    )(**fields, stride=1, projects=False, name=equal_blocks(stage))
    x, _ = blocks(x, jnp.asarray(rates[1:]))
    return x
