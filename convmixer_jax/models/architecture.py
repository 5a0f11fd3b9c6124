"""The interface of a network, by which all commands work for it."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from convmixer_jax.config import (
  ImageSize,
  describe_size,
  describe_values,
  height_width,
  table,
)
from convmixer_jax.errors import UserError, user_code
from convmixer_jax.models.fields import Field
from convmixer_jax.models.plain_inference import plain_inference
from convmixer_jax.models.released import IMAGENET_INPUT, Released
from convmixer_jax.models.shapes import variable_shapes
from convmixer_jax.models.timm_model import TimmModel

Tensors = Mapping[str, np.ndarray]
Variables = Mapping[str, Any]


class StateDictMap(NamedTuple):
  """Names and axes of a network's arrays in files, and ours.

  Attributes:
    matches: returns whether a name, without wrappers such as `module.`, may
      be that of one of the network's tensors.
    infer_fields: of a file's tensors by name, and of the file's name for
      errors, returns the network's fields (with `num_classes`) as far as they
      follow from names and shapes, and the tensors by timm's names, float32.
      Raises UserError with what is missing, surplus or misshapen.
    from_timm: brings tensors by timm's names to our variables.
    to_timm: brings our variables back, bit for bit. For images of other than
      three channels it takes a second argument, their number.
    assume: returns the fields that do not follow from tensors, given those
      that do, as published networks of these shapes have them; a field that
      cannot be assumed is left out.
    image_size: returns the side in pixels of the images that tensors by timm's
      names are for, given the fields; None if it does not follow from them.
    timm_names: the network's variants by timm's names of them.
    timm_model: returns how timm creates the network with these fields, number
      of classes, channels and image size; None: timm does not have it.
  """

  matches: Callable[[str], bool]
  infer_fields: Callable[[Tensors, str], tuple[dict[str, Any], Tensors]]
  from_timm: Callable[[Tensors], dict[str, Any]]
  to_timm: Callable[..., dict[str, np.ndarray]]
  assume: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda fields: {}
  image_size: Callable[[Mapping[str, Any], Tensors], ImageSize | None] = (
    lambda fields, tensors: None
  )
  timm_names: Mapping[str, str] = {}
  timm_model: Callable[..., TimmModel] | None = None


class Architecture(NamedTuple):
  """A network: everything outside `models/` works through this table.

  Attributes:
    module: the Flax module, `module(**fields, num_classes=..., dtype=...)`,
      whose `__call__(images, *, train: bool)` maps normalised images
      `[B, H, W, C]` to logits `[B, num_classes]`, float32. It sows `features`,
      what the head sees. A module class belongs to one architecture.
    fields: the keys of `config.model` besides `name`. They are attributes of
      the module.
    variants: fields of published networks, by name.
    state_dict: names and axes in files of weights; None: only checkpoints of
      runs can be read.
    head: name of the module that a new data set replaces: a dense layer.
    stacked: names of modules that are many blocks: their parameters have a
      leading axis `[depth, ...]`. The network then has an attribute `gather`,
      by default None, a function that the parameters of each block go through
      before use; see `layers.create_block`.
    blocks: names of the modules that are a block, or many as `stacked` ones
      are, in the order in which they run; those that a network lacks are
      skipped. Empty: those of `stacked`.
    before_blocks: names of the modules and parameters that come before the
      blocks, for `config.layer_lr_decay`; None if that has no meaning.
    inference: a fast form of evaluation; None: `plain_inference`. Takes model,
      variables, and mean and standard deviation `[C]` of the values of the
      images (uint8 ones from 0 to 255), and returns a `jax.tree_util.Partial`,
      a function of images `[B, H, W, C]` that returns logits. With
      `pack_weights=True` the weights are laid out for many calls.
    pictures: returns kernels worth looking at by name, `[N, k, k, C]` or, of
      each block, `[depth, N, k, k, C]`; of the parameters.
    resize: brings parameters from one image size to another; takes these, the
      model and, as (height, width), the old and the new size.
    stem: path of the kernel that sees the images, whose axes are some of the
      patch, then channels of the images, then width; the first may be one.
      Weights for RGB images can be adapted to other channels in it.
    to_onnx: adds the network to an `export.onnx_graph.Graph`. Takes graph,
      model, variables, mean, standard deviation, and returns the name of the
      logits. None: it cannot be exported to ONNX.
    portable: fields of programs that have to run without this package, 'cpu'
      for CPUs and 'default' for other platforms.
    default_input: how images come to networks whose files do not contain it,
      as far as it differs from `IMAGENET_INPUT`.
    released: published weights, by tag; the first of a variant are its usual
      ones.
  """

  module: type[nn.Module]
  fields: Mapping[str, Field]
  variants: Mapping[str, Mapping[str, Any]] = {}
  state_dict: StateDictMap | None = None
  head: str = 'head'
  stacked: tuple[str, ...] = ()
  blocks: tuple[str, ...] = ()
  before_blocks: tuple[str, ...] | None = None
  inference: Callable[..., Any] | None = None
  pictures: Callable[[Variables], dict[str, jax.Array]] | None = None
  resize: Callable[..., Variables] | None = None
  stem: tuple[str, ...] | None = None
  to_onnx: Callable[..., str] | None = None
  portable: Mapping[str, Mapping[str, Any]] = {'cpu': {}, 'default': {}}
  default_input: Mapping[str, Any] = {}
  released: Mapping[str, Released] = {}

  def published_input(self, variant: str | None = None) -> dict[str, Any]:
    """Returns how images come to a published network; see `IMAGENET_INPUT`.

    Args:
      variant: a key of `variants`; None if it is unknown.
    """
    weights = self.usual_weights(variant)
    if weights is not None:
      return weights.input
    return {**IMAGENET_INPUT, **self.default_input}

  def usual_weights(self, variant: str | None) -> Released | None:
    """Returns the first released weights of a variant; None without any."""
    found = (w for w in self.released.values() if w.variant == variant)
    return next(found, None)

  def names(self, *roles: str) -> list[str]:
    """Returns the names of the fields with one of these roles."""
    return [name for name, field in self.fields.items() if field.role in roles]

  def describe_fields(self) -> str:
    """Returns a table in Markdown of the fields."""
    return table(
      (
        f'model.{name}',
        field.default,
        describe_values(field.default, field.ranges),
        field.text,
        field.role == 'compute',
      )
      for name, field in self.fields.items()
    )

  def network_fields(self, model: nn.Module) -> dict[str, Any]:
    """Returns the fields that decide what a trained `model` computes."""
    return {name: getattr(model, name) for name in self.names('network')}

  def num_channels(
    self, params: Variables, fields: Mapping[str, Any]
  ) -> int | None:
    """Returns the channels of the images; None where there is no `stem`.

    Args:
      params: of the network.
      fields: of the network.
    """
    if not self.stem:
      return None
    kernel: Any = params
    for name in self.stem:
      kernel = kernel[name]
    if len(kernel.shape) > 2:
      return kernel.shape[-2]
    return kernel.shape[0] // fields['patch_size'] ** 2

  def num_classes(self, params: Variables) -> int:
    """Returns the outputs of the head."""
    return jax.tree.leaves(params[self.head])[0].shape[-1]

  def on_default_platform(self, model: nn.Module) -> nn.Module:
    """Returns the model with what is best for the platform that runs it."""
    changed = {key for fields in self.portable.values() for key in fields}
    return model.clone(**{key: self.fields[key].default for key in changed})

  def check_image_size(
    self,
    model: nn.Module,
    variables: Variables,
    image_size: ImageSize,
    channels: int = 3,
  ) -> None:
    """Raises UserError if a network does not take images of this size.

    Args:
      model: the network.
      variables: its own, or their shapes.
      image_size: side or (height, width), in pixels.
      channels: of the images.
    """
    shape = (1, *height_width(image_size), channels)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    with _size_errors(model, image_size):
      jax.eval_shape(
        functools.partial(model.apply, train=False), variables, image
      )

  def variable_shapes(
    self, model: nn.Module, image_size: ImageSize, channels: int = 3
  ) -> dict[str, Any]:
    """Returns `shapes.variable_shapes`.

    Raises:
      UserError: the network does not take images of this size.
    """
    with _size_errors(model, image_size):
      return variable_shapes(model, image_size, channels)

  def make_inference(
    self,
    model: nn.Module,
    variables: Variables,
    mean: jax.Array,
    std: jax.Array,
    *,
    pack_weights: bool = False,
  ) -> Callable[[jax.Array], jax.Array]:
    """Returns evaluation as a function of pixels; see `inference`."""
    make = self.inference or functools.partial(
      plain_inference, stacked=self.stacked
    )
    return make(model, variables, mean, std, pack_weights=pack_weights)


def patch_size_of(network: Any) -> int:
  """Returns the side of a patch in pixels, 1 for a network without patches.

  Args:
    network: the model, or `config.model`.
  """
  return getattr(network, 'patch_size', 1)


@contextlib.contextmanager
def _size_errors(model, image_size):
  """Turns what a network raises for images of a size into a UserError."""
  patch_size = patch_size_of(model)
  if min(height_width(image_size)) < patch_size:
    raise UserError(
      f'images of {describe_size(image_size)} are smaller than a patch of '
      f'the network, {patch_size} pixels; choose a larger size'
    )
  with user_code(
    f'{type(model).__name__} fails for images of {describe_size(image_size)}',
    'choose another size, or correct it as it was in training; --debug shows '
    'more',
  ):
    yield


def describe(model: nn.Module) -> str:
  """Returns a model's name for people to read, such as 'ConvMixer-768/32'."""
  name = type(model).__name__
  if hasattr(model, 'size_name'):
    return f'{name}-{model.size_name}'
  if hasattr(model, 'width') and hasattr(model, 'depth'):
    return f'{name}-{model.width}/{model.depth}'
  return name
