"""A network of one's own with stacked blocks, for test_fsdp.py."""

import flax.linen as nn
import jax.numpy as jnp

from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.fields import Field
from convmixer_jax.models.layers import GatherFn, create_block, to_patches

FIELDS = {
  'width': Field(32, 'channels', minimum=1),
  'depth': Field(2, 'blocks', minimum=1),
  'scan': Field(False, 'compile one block and loop over it', role='compute'),
}


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return x + nn.gelu(nn.Dense(x.shape[-1], name='dense')(x)), None


class Stack(nn.Module):
  width: int
  depth: int
  scan: bool = False
  num_classes: int = 10
  dtype: jnp.dtype = jnp.float32
  gather: GatherFn | None = None

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.Dense(self.width, name='patches')(to_patches(images, 2))
    block = create_block(Block, gather=self.gather, scan=self.scan)
    blocks = nn.scan(
      block,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=self.depth,
      unroll=1 if self.scan else self.depth,
    )
    x, _ = blocks(name='blocks')(x, None)
    return nn.Dense(self.num_classes, name='head')(jnp.mean(x, (1, 2)))


STACKED = Architecture(module=Stack, fields=FIELDS, stacked=('blocks',))
