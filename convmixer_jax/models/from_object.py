"""The `config.model` of a network that is given as an object."""

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from convmixer_jax.errors import UserError
from convmixer_jax.models import own_modules
from convmixer_jax.models.registry import (
  DTYPES,
  find_architecture,
  model_config,
  name_of,
)
from convmixer_jax.own_names import Named, unwrap


def config_of_object(
  model: nn.Module | Named,
  dtype: str,
  image_shape: tuple[int, int, int],
) -> ml_collections.ConfigDict:
  """Returns `config.model` of a network that is given as an object.

  Args:
    model: the network. One of this package becomes its name and fields.
    dtype: `config.dtype`.
    image_shape: (height, width, channels) of its images.

  Raises:
    UserError: it is not a network that a run can train.
  """
  module = unwrap(model)
  own_modules.check(module)
  name = name_of(type(module))
  if name is None:
    name = own_modules.register(model, image_shape)
    return ml_collections.ConfigDict({'name': name})
  if module.dtype != DTYPES[dtype]:
    raise UserError(
      f'the model has dtype {jnp.dtype(module.dtype).name}, and config.dtype = '
      f'{dtype!r}; set both to the same'
    )
  keys = find_architecture(name).fields
  return model_config(name, **{key: getattr(module, key) for key in keys})
