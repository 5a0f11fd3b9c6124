"""The networks by name: finds an Architecture and creates its module."""

import functools
import importlib
import os
import sys
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
from ml_collections.config_dict import placeholder

from convmixer_jax.config import ImageSize, height_width, nearest
from convmixer_jax.errors import UserError
from convmixer_jax.models import check_user_network, own_modules
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.convmixer import CONVMIXER
from convmixer_jax.models.distilled_vit import DISTILLED_VIT
from convmixer_jax.models.isotropic import ISOTROPIC
from convmixer_jax.models.mixer import MIXER
from convmixer_jax.models.released import Released
from convmixer_jax.models.resmlp import RESMLP
from convmixer_jax.models.resnet import RESNET
from convmixer_jax.models.vit import VIT

MODELS: dict[str, Architecture] = {
  'convmixer': CONVMIXER,
  'vit': VIT,
  'distilled_vit': DISTILLED_VIT,  # after ViT, all of whose tensors it has
  'resmlp': RESMLP,
  'mixer': MIXER,
  'resnet': RESNET,
  'isotropic': ISOTROPIC,
}
DEFAULT = 'convmixer'  # of configs
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

# Published networks by name, as arguments of `model_config`.
VARIANTS: dict[str, dict[str, Any]] = {
  variant: {'name': name, **fields}
  for name, architecture in MODELS.items()
  for variant, fields in architecture.variants.items()
}

# Released weights by tag: the network, and what is known of them.
RELEASED: dict[str, tuple[str, Released]] = {
  tag: (name, weights)
  for name, architecture in MODELS.items()
  for tag, weights in architecture.released.items()
}

_imported: dict[str, Architecture] = {}  # from outside the package, by name


def find_architecture(name: str) -> Architecture:
  """Returns a network of this package, or one of the user's.

  Args:
    name: a key of `MODELS`, or 'MODULE:ATTRIBUTE', an `Architecture` in a
      module that can be imported, also from the working directory.

  Raises:
    UserError: there is none.
  """
  if isinstance(name, str) and name in MODELS:  # a list cannot be looked up
    return MODELS[name]
  if own_modules.is_object(name):
    return own_modules.find(name)
  if not isinstance(name, str) or ':' not in name:
    raise UserError(
      f'config.model.name = {name!r} is unknown; there are '
      f'{", ".join(MODELS)}, and MODULE:ATTRIBUTE for a network of your own'
    )
  if name not in _imported:
    _imported[name] = _import(name)
  return _imported[name]


def is_known(name: str) -> bool:
  """Whether `find_architecture` finds a name without importing a module."""
  return name in MODELS or name in _imported


def _import(name):
  module, _, attribute = name.partition(':')
  if not module or not attribute:
    raise check_user_network.network_error(
      name, 'give MODULE:ATTRIBUTE, such as my_network:MY_NETWORK'
    )
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  try:
    imported = importlib.import_module(module)
  except UserError:
    raise
  except (Exception, SystemExit) as error:  # any, from the user's module
    missing = getattr(error, 'name', None)
    if (
      isinstance(error, ModuleNotFoundError)
      and missing
      and (f'{module}.'.startswith(f'{missing}.'))
    ):
      raise check_user_network.network_error(
        name,
        f'there is no module {missing!r}; start the command in the directory '
        'where it is, or add that to PYTHONPATH',
      ) from error
    raise check_user_network.network_error(
      name,
      f'{module} cannot be imported {check_user_network.describe_error(error)}',
    ) from error
  if not hasattr(imported, attribute):
    there = [
      k for k, v in vars(imported).items() if isinstance(v, Architecture)
    ]
    raise check_user_network.network_error(
      name,
      f'{module} has no {attribute!r}; its Architectures: '
      f'{", ".join(there) or "none"}',
    )
  found = getattr(imported, attribute)
  check_user_network.check_architecture(name, found, MODELS.values())
  return found


def name_of(module: type[nn.Module]) -> str | None:
  """Returns the name of the network that has a module class, None if none."""
  for name, architecture in {**MODELS, **_imported}.items():
    if module is architecture.module:
      return name
  return None


def architecture_of(model: nn.Module) -> Architecture:
  """Returns the architecture of a model, or of a class that it extends.

  Raises:
    ValueError: the model was not created through the table.
  """
  known = (*MODELS.values(), *_imported.values())
  for architecture in known:
    if type(model) is architecture.module:
      return architecture
  if own := own_modules.find_of(model):
    return own
  for architecture in known:
    if isinstance(model, architecture.module):
      return architecture
  raise ValueError(f'{type(model).__name__} belongs to no known Architecture')


def model_config(
  name: str = DEFAULT, **fields: Any
) -> ml_collections.ConfigDict:
  """Returns `config.model` of a network.

  Args:
    name: see `find_architecture`.
    **fields: other values than the defaults.
  """
  config = ml_collections.ConfigDict({'name': name})
  for key, field in find_architecture(name).fields.items():
    config[key] = placeholder(str) if field.default is None else field.default
  config.update(fields)
  return config


def choose_network(config: ml_collections.ConfigDict, name: str) -> None:
  """Replaces `config.model` by the defaults of another network, if it is one.

  Args:
    config: the whole config.
    name: of the network.
  """
  model = config.get('model')
  if model is None or model.get('name') != name:
    config.model = model_config(name)


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks that `config.model` has exactly the fields of its network.

  Each value is checked by itself; all together when the network is created.

  Raises:
    UserError: names the field that is missing, surplus or out of range.
  """
  name = _name(config)
  fields = find_architecture(name).fields
  for key in config:
    if key not in fields and key != 'name':
      raise UserError(_unknown_field(key, name))
  for key, field in fields.items():
    if key not in config:
      raise UserError(
        f'config.model.{key} of {name!r} is missing; its default is '
        f'{field.default!r}'
      )
    field.check(f'config.model.{key}', config[key])


def is_field_of_another(key: str, name: str) -> bool:
  """Whether `key` is not a field of the network `name`, but of another."""
  return key not in find_architecture(name).fields and any(
    key in architecture.fields for architecture in MODELS.values()
  )


def list_fields(name: str) -> str:
  """Returns the fields of a network as part of an error."""
  return f'{name!r}, which has {", ".join(find_architecture(name).fields)}'


def _name(config):
  if 'name' not in config:
    raise UserError(f'config.model.name is missing; its default is {DEFAULT!r}')
  return config['name']


def _unknown_field(key, name):
  if is_field_of_another(key, name):
    return f'config.model.{key} is not a field of {list_fields(name)}'
  fields = ['name', *find_architecture(name).fields]
  return (
    f'config.model.{key} is not a field of {name!r}; did you mean '
    f'config.model.{nearest(key, fields)}?'
  )


def free_keys(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the keys, as 'model.scan', that a run may resume with changed."""
  architecture = find_architecture(_name(config))
  return [f'model.{name}' for name in architecture.names('compute')]


def create_model(
  config: ml_collections.ConfigDict,
  num_classes: int,
  dtype: str = 'float32',
  image_size: ImageSize | None = None,
) -> nn.Module:
  """Builds the network that `config.model` describes.

  Args:
    config: `config.model`; fields of training and of computing may be
      missing.
    num_classes: outputs of the head, which the data set decides.
    dtype: name of the compute dtype, `config.dtype`.
    image_size: that of training; a network whose parameters depend on it has
      an attribute `native_size` for it, (height, width).

  Raises:
    UserError: the network or a field is unknown, or a field is out of range.
  """
  if dtype not in DTYPES:
    raise UserError(
      f'config.dtype = {dtype!r} is unknown; there are {", ".join(DTYPES)}'
    )
  name = _name(config)
  fields = {key: value for key, value in config.items() if key != 'name'}
  architecture = find_architecture(name)
  for key in fields:
    if key not in architecture.fields:
      raise UserError(_unknown_field(key, name))
  if own_modules.is_object(name):
    return own_modules.create(name, num_classes)
  for key, field in architecture.fields.items():
    if key not in fields and field.role == 'network':
      raise UserError(f'config.model.{key} of {name!r} is missing; add it')
    fields.setdefault(key, field.default)
  if image_size is not None and hasattr(architecture.module, 'native_size'):
    fields['native_size'] = height_width(image_size)
  fields |= {'num_classes': num_classes, 'dtype': DTYPES[dtype]}
  create = functools.partial(architecture.module, **fields)
  return (
    create() if name in MODELS else check_user_network.construct(name, create)
  )


def check_network(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  image_shape: tuple[int, int, int],
) -> None:
  """Checks a network of the user's, if it is one, in `check_user_network`.

  Args:
    config: `config.model`.
    model: the network that `create_model` built from it.
    image_shape: (height, width, channels) of the images of the run.
  """
  name = _name(config)
  if name not in MODELS:
    check_user_network.check_network(
      name, find_architecture(name), model, image_shape
    )
