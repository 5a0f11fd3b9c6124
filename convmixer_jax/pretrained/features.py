"""Features of a trained network, for images or as a backbone of other programs.

features = trained.features(['cat.jpg', 'dog.jpg'])
features.grid    # [2, H / p, W / p, width]
features.pooled  # [2, width]
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from convmixer_jax.config import ImageSize, height_width, to_image_size
from convmixer_jax.distributed import sharding
from convmixer_jax.distributed.eval_pass import run_batches
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models.features import (
  Features,
  Layers,
  apply_with_features,
  find_layers,
)
from convmixer_jax.models.inference import pixel_statistics, to_pixels
from convmixer_jax.pretrained.images import Images, read_images, to_list
from convmixer_jax.pretrained.inference import choose_batch_size

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained_model import TrainedModel


@dataclasses.dataclass(frozen=True)
class Backbone:
  """The features of a network, a function that JAX traces.

  Attributes:
    model: the network, evaluated with its running statistics.
    mean: of each channel, of uint8 pixels from 0 to 255.
    std: of each channel, likewise.
    layers: which layers it returns.
  """

  model: nn.Module
  mean: tuple[float, ...]
  std: tuple[float, ...]
  layers: Layers = None

  def __call__(self, variables: Mapping[str, Any], images: Any) -> Features:
    """Returns the features of images.

    Args:
      variables: `params` and `batch_stats`, those of the trained network or
        those that your program has trained further.
      images: `[B, H, W, C]`, not normalised, of any size that the network
        takes; uint8 or uint16, or floats from 0 to 1.

    Raises:
      UserError: the network does not take images of this size, has no such
        layer, or sows none.
    """
    return apply_with_features(
      self.model, variables, self.normalize(images), self.layers
    )

  def normalize(self, images: Any) -> jax.Array:
    """Returns images as the network was trained on them, float32."""
    mean, std = jnp.float32(self.mean), jnp.float32(self.std)
    return (to_pixels(jnp.asarray(images)) - mean) / std


class FeatureExtraction:
  """The part of `TrainedModel` that gives its features."""

  def features(
    self: 'TrainedModel',
    images: Images,
    layers: Layers = None,
    *,
    batch_size: int = 32,
    image_size: ImageSize | None = None,
    resize: bool = True,
    exif_rotate: bool = True,
  ) -> Features:
    """Returns what layers of the network output for images.

    Args:
      images: see `logits`.
      layers: None for the last one, 'all', or one or several by name or number:
        'stem' or 0, 'block1' or 1, ..., 'last' or -1. See `layer_names`.
      batch_size: images at a time.
      image_size: side, or (height, width), in pixels, that the images are
        resized and cropped to; None for that of training.
      resize: False for images as they are, all of one size that the network
        takes: for a ConvMixer any size from one patch on, of which the rows and
        columns that do not fill a patch are cropped.
      exif_rotate: see `logits`.

    Returns:
      `Features` of NumPy arrays in float32: `grid` `[N, h, w, C]` and `pooled`
      `[N, C]` of the last of these layers; of each, `layers[name].grid`,
      `.pooled` and, in a ViT, `.class_token`; and `logits`.

    Raises:
      UserError: the images are not of this kind, have not the same size, or
        cannot be read; or there is no such layer.
    """
    found = to_list(images, self.channels, self.image_dtype)
    config = self.eval_config(
      choose_batch_size(batch_size, len(found)), image_size
    )
    pixels = _read(found, config, exif_rotate, resize)
    if not found:  # computed for one, to have the shapes of the results
      shape = *height_width(config.dataset.image_size), self.channels
      pixels = [np.zeros(shape, np.uint8)]
    elif not resize:  # does the network take this size?
      self.eval_config(1, to_image_size(*pixels[0].shape[:2]))
    parts = list(_apply(self, self.backbone(layers), pixels, config))
    return jax.tree.map(
      lambda *arrays: np.concatenate(arrays)[: len(found)].astype(
        np.float32, copy=False
      ),
      *parts,
    )

  def backbone(self: 'TrainedModel', layers: Layers = None) -> Backbone:
    """Returns the features as a function, for a program of your own.

    `backbone(trained.variables, images)` can be jitted and differentiated; see
    docs/features.md.

    Args:
      layers: see `features`.
    """
    if layers is not None and not isinstance(layers, (str, int)):
      layers = tuple(layers)
    dataset = self.eval_config(1).dataset
    mean, std = (
      tuple(map(float, values)) for values in pixel_statistics(dataset)
    )
    return Backbone(self.model, mean, std, layers)

  @functools.cached_property
  def layer_names(self: 'TrainedModel') -> tuple[str, ...]:
    """The layers that have features, in order: 'stem', 'block1', ..., 'last'.

    Empty for a network of your own that sows none.
    """
    size = height_width(self.image_size)
    image = jax.ShapeDtypeStruct((1, *size, self.channels), np.float32)
    _, state = jax.eval_shape(
      lambda image: self.model.apply(
        self.variables, image, train=False, mutable=['intermediates']
      ),
      image,
    )
    return tuple(find_layers(state.get('intermediates', {})))

  @functools.cached_property
  def replicated_variables(self: 'TrainedModel') -> dict[str, Any]:
    """The variables on all devices, where they stay with this object."""
    mesh = sharding.create_mesh(self.eval_config(1).mesh)
    return jax.device_put(self.variables, sharding.replicated(mesh))


def _read(found, config, exif_rotate, resize):
  """Returns the pixels of each image, all of one shape.

  Raises:
    UserError: an image cannot be read, or has another size than the first.
  """
  pixels = []
  for image, array, error in read_images(found, config, exif_rotate, resize):
    if error is not None:
      raise UserError(error)
    if pixels and array.shape != pixels[0].shape:
      sizes = (
        f'{height} x {width}'
        for height, width, _ in (pixels[0].shape, array.shape)
      )
      where = image if isinstance(image, str) else f'image {len(pixels)}'
      raise UserError(
        f'the first image is {next(sizes)} pixels and {where} {next(sizes)}; '
        'with resize=False all have to be of one size: give them one by one'
      )
    pixels.append(array)
  return pixels


def _apply(
  trained: 'TrainedModel',
  backbone: Any,
  pixels: list[np.ndarray],
  config: ml_collections.ConfigDict,
) -> Iterator[Features]:
  """Yields the features of batches of images, as NumPy arrays."""
  mesh = sharding.create_mesh(config.mesh)
  variables = trained.replicated_variables
  extract = default_settings()(_compile(sharding.replicated(mesh)))
  size = config.batch_size
  batches = (
    {'image': np.stack(pixels[start : start + size])}
    for start in range(0, len(pixels), size)
  )
  for batch, features in run_batches(
    lambda batch: extract(backbone, variables, batch['image']),
    batches,
    mesh,
    size,
  ):
    rows = int(batch['mask'].sum())
    yield jax.tree.map(lambda array, rows=rows: array[:rows], features)


@functools.cache
def _compile(output_sharding):
  return jax.jit(
    lambda backbone, variables, images: backbone(variables, images),
    static_argnums=0,
    out_shardings=output_sharding,
  )
