"""A trained ConvMixer for inference, with BatchNorms folded where possible.

- The scaling of the pixels is folded into the patch embedding.
- A depthwise convolution's BatchNorm is `factor * a + shift`, to which the
  residual is added. The shift is folded into the bias of the pointwise product
  that follows. The factor is not: it scales only one term of the sum.
- A pointwise convolution's BatchNorm is not folded: the next convolution pads
  its result with zeros, and the residual adds it.
- The last BatchNorm is folded into the head, since a mean over space is linear.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.models.batch_norm import running_affine
from convmixer_jax.models.convmixer.module import (
  ConvMixer,
  norm_and_linear_backend,
)
from convmixer_jax.models.layers import to_patches

_NORM = 'bias', 'factor', 'shift'


def fold(
  variables: Any,
  mean: Sequence[float] | jax.Array = (0.0, 0.0, 0.0),
  std: Sequence[float] | jax.Array = (1.0, 1.0, 1.0),
) -> dict[str, dict[str, jax.Array]]:
  """Folds the variables of a `ConvMixer`, of width h and depth d.

  Args:
    variables: with `params` and `batch_stats`.
    mean: of the pixels, `[C]`. The folded network includes the normalisation
      `(images - mean) / std`.
    std: standard deviation of the pixels.

  Returns:
    The weights that `apply_folded` takes, in float32:
    `patch`: `kernel` `[p, p, C, h]`; `bias`, `factor` and `shift` `[h]`.
    `blocks`: `depthwise_kernel` `[d, k, k, h]`; `pointwise_kernel`
      `[d, h, h]`; and `[d, h]` each: `depthwise_bias`, `depthwise_factor`,
      `pointwise_bias`, `pointwise_factor`, `pointwise_shift`. The last two are
      1 and 0 in the last block.
    `head`: `kernel` `[h, classes]`; `bias` `[classes]`.
  """
  params, stats = variables['params'], variables['batch_stats']
  embedding, blocks, head = (
    params[name] for name in ('patch_embedding', 'blocks', 'head')
  )
  patch_kernel = embedding['kernel'] / jnp.float32(std)[:, None]
  offset = jnp.sum(patch_kernel * jnp.float32(mean)[:, None], (0, 1, 2))
  patch_factor, patch_shift = running_affine(
    params['patch_bn'], stats['patch_bn']
  )
  (depthwise_factor, depthwise_shift), (factor, shift) = (
    running_affine(blocks[name], stats['blocks'][name])
    for name in ('depthwise_bn', 'pointwise_bn')
  )
  return {
    'patch': {
      'kernel': patch_kernel,
      'bias': embedding['bias'] - offset,
      'factor': patch_factor,
      'shift': patch_shift,
    },
    'blocks': {
      'depthwise_kernel': blocks['depthwise']['kernel'],
      'depthwise_bias': blocks['depthwise']['bias'],
      'depthwise_factor': depthwise_factor,
      'pointwise_kernel': blocks['pointwise']['kernel'],
      'pointwise_bias': blocks['pointwise']['bias']
      + _product('di,dio->do', depthwise_shift, blocks['pointwise']['kernel']),
      'pointwise_factor': factor.at[-1].set(1.0),
      'pointwise_shift': shift.at[-1].set(0.0),
    },
    'head': {
      'kernel': head['kernel'] * factor[-1][:, None],
      'bias': head['bias'] + _product('i,io->o', shift[-1], head['kernel']),
    },
  }


def pack_folded_weights(
  model: ConvMixer, folded: dict[str, Any]
) -> dict[str, Any]:
  """Returns the result of `fold` in a layout for many batches.

  `blocks` becomes a list with a dict for each block, because taking a block out
  of the stack would copy its weights each time. On a CPU, the pointwise kernels
  are packed.
  """
  backend = norm_and_linear_backend(model.depthwise)
  depth = len(folded['blocks']['pointwise_bias'])
  blocks = [
    {name: stack[number] for name, stack in folded['blocks'].items()}
    for number in range(depth)
  ]
  for block in blocks:
    block['pointwise_kernel'] = kernels.pack_kernel(
      block['pointwise_kernel'], model.dtype, backend
    )
  return folded | {'blocks': blocks}


def apply_folded(
  model: ConvMixer, folded: dict[str, Any], images: jax.Array
) -> jax.Array:
  """Classifies images as `model.apply(variables, images, train=False)` does.

  Args:
    model: has patch size, activation, dtype, and the backend.
    folded: from `fold`, or from `pack_folded_weights`; with the latter the
      blocks are not compiled as a loop.
    images: `[B, H, W, C]`, any dtype, with the mean and standard deviation
      that `fold` was given.

  Returns:
    Logits `[B, classes]`, float32.
  """
  backend = norm_and_linear_backend(model.depthwise)
  linear = partial(kernels.linear, backend=backend)

  def mix_and_multiply(product, block):
    if model.gather is not None:
      block = model.gather(block)
    y = kernels.fused_mixer(
      *product,
      block['depthwise_kernel'],
      block['depthwise_bias'],
      block['depthwise_factor'],
      activation=model.activation,
      backend=model.depthwise,
    )
    norm = tuple(block[f'pointwise_{name}'] for name in _NORM)
    return (linear(y, block['pointwise_kernel']), *norm), None

  patch, head = folded['patch'], folded['head']
  patches = to_patches(images.astype(model.dtype), model.patch_size)
  kernel = patch['kernel'].reshape(patches.shape[-1], -1)
  product = linear(patches, kernel), *(patch[name] for name in _NORM)
  if isinstance(folded['blocks'], list):
    for block in folded['blocks']:
      product, _ = mix_and_multiply(product, block)
  else:
    product, _ = lax.scan(
      mix_and_multiply,
      product,
      folded['blocks'],
      unroll=1 if model.scan else model.depth,
    )
  last, bias, *_ = product
  pooled = kernels.activation_mean(
    last,
    bias,
    activation=model.activation,
    backend=backend,
  )
  return linear(pooled, head['kernel']) + head['bias']


def make_inference(
  model: ConvMixer,
  variables: Any,
  mean: jax.Array,
  std: jax.Array,
  *,
  pack_weights: bool = False,
) -> jax.tree_util.Partial:
  """Returns `apply_folded` of folded variables; see `Architecture.inference`.

  The weights of a loop over blocks are a stack, which cannot be packed.
  """
  folded = fold(variables, mean, std)
  if pack_weights and not model.scan:
    folded = pack_folded_weights(model, folded)
  return jax.tree_util.Partial(_ApplyFolded(model), folded)


@dataclasses.dataclass(frozen=True)
class _ApplyFolded:
  """`apply_folded` of a model. Equal objects share one compilation."""

  model: ConvMixer

  def __call__(self, folded, images):
    return apply_folded(self.model, folded, images)


def _product(subscripts, *operands):
  return jnp.einsum(subscripts, *operands, precision=lax.Precision.HIGHEST)
