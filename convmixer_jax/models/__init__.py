"""The networks, in Flax linen."""

import jax.numpy as jnp
import ml_collections

from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer import ConvMixer

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def create_model(
  config: ml_collections.ConfigDict, num_classes: int, dtype: str = 'float32'
) -> ConvMixer:
  """Builds the network that `config.model` describes.

  Args:
    config: `config.model`.
    num_classes: outputs of the head, which the data set decides.
    dtype: name of the compute dtype, `config.dtype`.

  Raises:
    UserError: a field is out of range.
  """
  if dtype not in DTYPES:
    raise UserError(
      f'config.dtype = {dtype!r} is unknown; there are {", ".join(DTYPES)}'
    )
  return ConvMixer(**config, num_classes=num_classes, dtype=DTYPES[dtype])


__all__ = ['ConvMixer', 'create_model']
