"""A trained ConvMixer for inference, its BatchNorms folded where they can be.

- The scaling of the pixels goes into the patch embedding.
- A depthwise convolution's BatchNorm is `factor * a + shift`, to which the
  residual is added. The pointwise product that follows takes the shift into its
  bias. The factor stays: it scales only one part of the sum.
- A pointwise convolution's BatchNorm stays: what follows pads with zeros, and
  adds the very thing.
- The last BatchNorm goes into the head, for a mean over space is linear.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convmixer_jax import ops
from convmixer_jax.models.batch_norm import running_affine
from convmixer_jax.models.convmixer.module import (
  ConvMixer,
  implementation_around,
)
from convmixer_jax.models.layers import to_patches

_NORM = 'bias', 'factor', 'shift'


def fold(
  variables: Any,
  mean: tuple[float, ...] = (0.0, 0.0, 0.0),
  std: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> dict[str, dict[str, jax.Array]]:
  """Folds the variables of a `ConvMixer`, of width h and depth d.

  Args:
    variables: with `params` and `batch_stats`.
    mean: of the images that the folded network is given: it takes them through
      `(images - mean) / std`.
    std: likewise.

  Returns:
    What `apply_folded` wants, in float32: `patch` with `kernel` `[p, p, 3, h]`,
    `bias`, `factor` and `shift` `[h]`; `blocks` with `depthwise_kernel`
    `[d, k, k, h]`, `pointwise_kernel` `[d, h, h]`, and `depthwise_bias`,
    `depthwise_factor`, `pointwise_bias`, `pointwise_factor` and
    `pointwise_shift` `[d, h]`, the last two being 1 and 0 in the last block;
    `head` with `kernel` `[h, classes]` and `bias` `[classes]`.
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


def prepare(model: ConvMixer, folded: dict[str, Any]) -> dict[str, Any]:
  """Returns what `fold` did, laid out for many batches.

  `blocks` becomes a list of one dict a block: to take one out of a stack copies
  its weights. The pointwise kernels are packed, on a CPU.
  """
  around = implementation_around(model.depthwise)
  depth = len(folded['blocks']['pointwise_bias'])
  blocks = [
    {name: stack[number] for name, stack in folded['blocks'].items()}
    for number in range(depth)
  ]
  for block in blocks:
    block['pointwise_kernel'] = ops.pack(
      block['pointwise_kernel'], model.dtype, around
    )
  return folded | {'blocks': blocks}


def apply_folded(
  model: ConvMixer, folded: dict[str, Any], images: jax.Array
) -> jax.Array:
  """Classifies images as `model.apply(variables, images, train=False)` does.

  Args:
    model: tells patch size, activation, dtype, and how to compute.
    folded: of `fold`, or of `prepare`, whose blocks are never a loop.
    images: `[B, H, W, 3]`, any dtype, as `fold` was told.

  Returns:
    Logits `[B, classes]`, float32.
  """
  around = implementation_around(model.depthwise)
  linear = partial(ops.linear, implementation=around)

  def mix_and_multiply(product, block):
    if model.gather is not None:
      block = model.gather(block)
    y = ops.mix(
      *product,
      block['depthwise_kernel'],
      block['depthwise_bias'],
      block['depthwise_factor'],
      activation=model.activation,
      implementation=model.depthwise,
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
  pooled = ops.activation_mean(
    last,
    bias,
    activation=model.activation,
    implementation=around,
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
  """Returns `apply_folded` of what is folded; see `Architecture.inference`.

  A loop over blocks takes its weights from a stack, which is not packed.
  """
  folded = fold(variables, mean, std)
  if pack_weights and not model.scan:
    folded = prepare(model, folded)
  return jax.tree_util.Partial(_ApplyFolded(model), folded)


@dataclasses.dataclass(frozen=True)
class _ApplyFolded:
  """`apply_folded` of a model; equal ones are compiled once."""

  model: ConvMixer

  def __call__(self, folded, images):
    return apply_folded(self.model, folded, images)


def _product(subscripts, *operands):
  return jnp.einsum(subscripts, *operands, precision=lax.Precision.HIGHEST)
