"""Predictions of a trained network for images."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import ml_collections
import numpy as np

from convmixer_jax.analysis.label_metrics import sigmoid
from convmixer_jax.config import ImageSize, image_shape
from convmixer_jax.data import image_files
from convmixer_jax.data.batches import HostBatch
from convmixer_jax.distributed import sharding
from convmixer_jax.distributed.eval_pass import run_batches
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models import find_architecture
from convmixer_jax.models.inference import make_inference
from convmixer_jax.pretrained.images import (
  ImageLike,
  prepared_dtype,
  read_images,
)

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained_model import TrainedModel

Infer = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The prediction for an image.

  Attributes:
    path: of its file; None if it was given as pixels.
    best: the most probable classes by number, at most five; of a network with
      several labels an image, all classes whose probability reaches their
      threshold, perhaps none. The most probable is first. Empty if the file
      cannot be read.
    probabilities: of these.
    names: of these, for people.
    error: why the file cannot be read, in one line; else None.
  """

  path: str | None
  best: tuple[int, ...] = ()
  probabilities: tuple[float, ...] = ()
  names: tuple[str, ...] = ()
  error: str | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns `file`, and `predictions` or `error`, for a line of JSON.

    Each of the predictions has `class` (its number), `name` and `probability`.
    """
    file = {} if self.path is None else {'file': image_files.as_utf8(self.path)}
    if self.error is not None:
      return file | {'error': self.error}
    columns = zip(self.best, self.names, self.probabilities, strict=True)
    return file | {
      'predictions': [
        {'class': number, 'name': name, 'probability': probability}
        for number, name, probability in columns
      ]
    }


def predict_images(
  trained: 'TrainedModel',
  images: Sequence[ImageLike],
  batch_size: int = 32,
  image_size: ImageSize | None = None,
  exif_rotate: bool = True,
) -> Iterator[Prediction]:
  """Classifies images, each prepared as in the network's evaluation.

  All batches have one shape, so the network is compiled once.

  Args:
    trained: the network.
    images: as `images.to_list` returns them.
    batch_size: images at a time.
    image_size: None for that of training.
    exif_rotate: whether to turn photographs upright by their EXIF orientation.

  Yields:
    The prediction for each image, in order.

  Raises:
    UserError: an image that is not a file cannot be read, or outputs are not
      finite.
  """
  labels = trained.labels()
  config = trained.eval_config(min(batch_size, len(images)), image_size)
  function = to_logits if trained.multi_label else _to_predictions
  for image, error, outputs in apply_to_images(
    trained, function, images, config, exif_rotate
  ):
    path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
    if error is not None:
      if path is None:
        raise UserError(error)
      yield Prediction(path, error=error)
    elif not all(
      np.isfinite(array).all() for array in jax.tree.leaves(outputs)
    ):
      where = 'an image' if path is None else path
      raise UserError(
        f'the outputs of {trained.origin} are not finite for {where}; give '
        'other weights'
      )
    else:
      if trained.multi_label:
        outputs = _reaching_thresholds(outputs, trained.class_thresholds())
      best, probabilities = (tuple(values.tolist()) for values in outputs)
      names = tuple(labels[number] for number in best)
      yield Prediction(path, best, probabilities, names)


def apply_to_images(
  trained: 'TrainedModel',
  function: Callable[[Infer, jax.Array], Any],
  images: Sequence[ImageLike],
  config: ml_collections.ConfigDict,
  exif_rotate: bool,
) -> Iterator[tuple[ImageLike, str | None, Any]]:
  """Applies a function of the network to images, in batches of one shape.

  Args:
    trained: the network.
    function: of `infer` (see `load_for_inference`) and of images
      `[B, H, W, C]` of `prepared_dtype`; returns a tree of arrays `[B, ...]`.
      It is compiled once for each shape.
    images: as `images.to_list` returns them.
    config: as `TrainedModel.eval_config` returns it.
    exif_rotate: whether to turn photographs upright by their EXIF orientation.

  Yields:
    Each image as it was given, why it cannot be read (else None), and what the
    function returned for it.
  """
  mesh = sharding.create_mesh(config.mesh)
  infer = trained.inference
  compiled = default_settings()(_compile(function, sharding.replicated(mesh)))
  for batch, outputs in run_batches(
    lambda batch: compiled(infer, batch['image']),
    _read_batches(images, config, exif_rotate),
    mesh,
    config.batch_size,
  ):
    for row, (image, error) in enumerate(
      zip(batch['source'], batch['error'], strict=True)
    ):
      yield (
        image,
        error,
        jax.tree.map(lambda array, row=row: array[row], outputs),
      )


def load_for_inference(trained: 'TrainedModel') -> Infer:
  """Puts the weights on all devices, laid out for many batches.

  Args:
    trained: the network.

  Returns:
    A `jax.tree_util.Partial`: a function of images `[B, H, W, C]`, of
    `prepared_dtype`, that returns logits `[B, K]` in float32.
  """
  config = trained.eval_config(1)
  everywhere = sharding.replicated(sharding.create_mesh(config.mesh))
  make = functools.partial(_make_inference, model=trained.model, config=config)
  with default_settings():
    if find_architecture(trained.network).inference is None:
      # Blocks are only taken out of stacks: those of NumPy are not copied.
      return jax.device_put(make(trained.variables), everywhere)
    return jax.jit(make, out_shardings=everywhere)(
      jax.device_put(trained.variables, everywhere)
    )


def to_logits(infer: Infer, images: jax.Array) -> jax.Array:
  """Returns logits `[B, K]`: a function for `apply_to_images`."""
  return infer(images)


@functools.cache
def _compile(function, output_sharding):
  return jax.jit(function, out_shardings=output_sharding)


def _make_inference(variables, *, model, config):
  return make_inference(
    model,
    variables,
    config.dataset,
    pack_weights=True,
    dtype=prepared_dtype(config),
  )


def _to_predictions(
  infer: Infer, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the best classes `[B, 5]`, or all, and their probabilities."""
  shares = jax.nn.softmax(infer(images))
  probabilities, best = jax.lax.top_k(shares, min(5, shares.shape[-1]))
  return best, probabilities


def _reaching_thresholds(
  logits: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the classes that an image is given, and their probabilities."""
  probabilities = sigmoid(logits)
  order = np.argsort(-probabilities, kind='stable')
  best = order[probabilities[order] >= thresholds[order]]
  return best, probabilities[best]


def _read_batches(
  images: Sequence[ImageLike],
  config: ml_collections.ConfigDict,
  exif_rotate: bool,
) -> Iterator[HostBatch]:
  """Yields `image` and, of each, its `source` and `error`.

  The pixels of one that cannot be read are black.
  """
  black = np.zeros(image_shape(config.dataset), prepared_dtype(config))
  prepared = read_images(images, config, exif_rotate)
  while read := list(itertools.islice(prepared, config.batch_size)):
    pixels = [black if image is None else image for _, image, _ in read]
    yield {
      'image': np.stack(pixels),
      'source': [source for source, _, _ in read],
      'error': [error for _, _, error in read],
    }
