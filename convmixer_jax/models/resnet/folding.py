"""A ResNet for inference: each BatchNorm folded into the convolution before it.

BatchNorm with running statistics multiplies each output of the convolution by a
factor, and adds a shift: both are those of its kernel and a bias.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.models.batch_norm import running_affine
from convmixer_jax.models.resnet.module import (
  STAGES,
  STRIDES,
  ResNet,
  equal_blocks,
  first_block,
)

_NORMS = {
  'conv1': 'bn1',
  'conv2': 'bn2',
  'conv3': 'bn3',
  'downsample': 'downsample_bn',
}


def fold(variables: Any) -> dict[str, Any]:
  """Folds the variables of a `ResNet`.

  Args:
    variables: with `params` and `batch_stats`.

  Returns:
    `conv1` and `head`, each with `kernel` and `bias`; and by the names of
    `first_block` and `equal_blocks`, the convolutions of a block, each with
    `kernel` and `bias`. Those of equal blocks are stacked.
  """
  params, stats = variables['params'], variables['batch_stats']
  folded = _fold_module(params, stats) | {'head': params['head']}
  for stage in STAGES:
    for name in (first_block(stage), equal_blocks(stage)):
      if name in params:
        folded[name] = _fold_module(params[name], stats[name])
  return folded


def _fold_module(params, stats):
  folded = {}
  for conv, norm in _NORMS.items():
    if conv in params:
      factor, shift = running_affine(params[norm], stats[norm])
      kernel = params[conv]['kernel'] * factor[..., None, None, None, :]
      folded[conv] = {'kernel': kernel, 'bias': shift}
  return folded


def apply_folded(
  model: ResNet, folded: dict[str, Any], images: jax.Array
) -> jax.Array:
  """Classifies images as `model.apply(variables, images, train=False)` does.

  Args:
    model: has dtype and backend.
    folded: from `fold`, or from `pack_folded_weights`; with the latter the
      blocks are not compiled as a loop.
    images: `[B, H, W, C]`, normalised.

  Returns:
    Logits `[B, classes]`, float32.
  """

  def conv(x, layer, stride=1, residual=None, *, is_shortcut=False):
    kernel, operands = layer['kernel'], (layer['bias'], residual)
    how = {'backend': model.backend, 'activation': 'relu'}
    if is_shortcut:  # which is added to what has the bias
      operands, how['activation'] = (None, None), None
    is_packed = isinstance(kernel, kernels.PackedKernel)
    if not is_packed and kernel.shape[0] > 1:
      padding = kernel.shape[0] // 2
      return kernels.biased_conv(
        x, kernel, *operands, stride=stride, padding=padding, **how
      )
    matrix = kernel if is_packed else kernel[0, 0]
    x = x[:, ::stride, ::stride]
    return kernels.biased_linear(x, matrix, *operands, **how)

  def run(x, block, stride=1):
    last, shortcut = block['conv3'], x
    if 'downsample' in block:
      layer = block['downsample']
      shortcut = conv(x, layer, stride, is_shortcut=True)
      last = last | {'bias': last['bias'] + layer['bias']}
    y = conv(conv(x, block['conv1']), block['conv2'], stride)
    return conv(y, last, residual=shortcut)

  def run_equal(x, block):
    if model.gather is not None:
      block = model.gather(block)
    return run(x, block), None

  x = conv(images.astype(model.dtype), folded['conv1'], 2)
  x = kernels.max_pool(x, backend=model.backend)
  for stage, stride in zip(STAGES, STRIDES, strict=True):
    x = run(x, folded[first_block(stage)], stride)
    blocks = folded.get(equal_blocks(stage), [])
    if isinstance(blocks, list):
      for block in blocks:
        x, _ = run_equal(x, block)
    else:
      unroll = 1 if model.scan else model.depths[stage - 1] - 1
      x, _ = lax.scan(run_equal, x, blocks, unroll=unroll)
  pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
  head = folded['head']
  return kernels.linear(pooled, head['kernel'], backend='xla') + head['bias']


def pack_folded_weights(
  model: ResNet, folded: dict[str, Any]
) -> dict[str, Any]:
  """Returns the result of `fold` in a layout for many batches.

  Stacks become lists of blocks, because taking a block out of a stack would
  copy its weights each time. On a CPU, the 1 x 1 kernels are packed.
  """

  def pack(layer):
    kernel = layer['kernel']
    if kernel.shape[0] == 1:
      packed = kernels.pack_kernel(kernel[0, 0], model.dtype, model.backend)
      if isinstance(packed, kernels.PackedKernel):
        return layer | {'kernel': packed}
    return layer

  def pack_block(block):
    return {name: pack(layer) for name, layer in block.items()}

  found = dict(folded)
  for stage in STAGES:
    first, others = first_block(stage), equal_blocks(stage)
    found[first] = pack_block(folded[first])
    found[others] = [
      pack_block(jax.tree.map(lambda stack, i=number: stack[i], folded[others]))
      for number in range(model.depths[stage - 1] - 1)
    ]
  return found


def make_inference(
  model: ResNet,
  variables: Any,
  mean: jax.Array,
  std: jax.Array,
  *,
  pack_weights: bool = False,
) -> jax.tree_util.Partial:
  """Returns `apply_folded` of folded variables; see `Architecture.inference`.

  The weights of a loop over blocks are a stack, which cannot be packed.
  """
  folded = fold(variables)
  if pack_weights and not model.scan:
    folded = pack_folded_weights(model, folded)
  return jax.tree_util.Partial(_ApplyFolded(model), folded, mean, std)


@dataclasses.dataclass(frozen=True)
class _ApplyFolded:
  """`apply_folded` of a model. Equal objects share one compilation."""

  model: ResNet

  def __call__(self, folded, mean, std, images):
    # Not folded: the first convolution pads normalised images with 0.
    return apply_folded(
      self.model, folded, (images.astype(jnp.float32) - mean) / std
    )
