"""Predictions of a trained network for image files."""

import collections
import contextlib
import dataclasses
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import grain
import jax
import ml_collections
import numpy as np

from convmixer_jax import limits
from convmixer_jax.data import image_files
from convmixer_jax.data.augment.transforms import eval_transform
from convmixer_jax.data.batches import HostBatch
from convmixer_jax.data.decode import count_pixels, decode_image
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.files import require_local
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models.inference import make_inference
from convmixer_jax.pretrained.trained_model import TrainedModel
from convmixer_jax.training.eval_pass import run_batches

# Longer files are not read, and images of more pixels one at a time: each may
# take 2 GB while it is decoded and resized.
_MAX_BYTES = 2**30
_MANY_PIXELS = 2**25
_many_pixels = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The prediction for a file.

  Attributes:
    path: of the file.
    best: the most probable classes, at most five; empty if the file cannot be
      read.
    probabilities: of these.
    error: why the file cannot be read, in one line; else None.
  """

  path: str
  best: tuple[int, ...] = ()
  probabilities: tuple[float, ...] = ()
  error: str | None = None


def find_images(paths: Sequence[str]) -> image_files.Found:
  """Returns the files that are named, and the images in the folders, sorted.

  Args:
    paths: of files, and of folders to look through at any depth; see
      `image_files` for what counts as an image there.

  Raises:
    UserError: there is no such path, or no image in a folder.
  """
  found, passed_over = [], collections.Counter()
  for path in paths:
    require_local(path, 'the path')
    if os.path.isdir(path):
      inside = image_files.find_in_folder(path)
      if not inside.paths:
        others = image_files.describe(inside.passed_over) or 'it is empty'
        raise UserError(
          f'{path} has no images that Pillow reads, such as .jpg, .png or '
          f'.webp ({others}); name a folder that has'
        )
      found += inside.paths
      passed_over.update(inside.passed_over)
    elif os.path.exists(path):
      found.append(path)
    else:
      raise UserError(f'{path} does not exist; name image files or folders')
  return image_files.Found(found, passed_over)


def predict_files(
  trained: TrainedModel,
  paths: Sequence[str],
  batch_size: int = 32,
  image_size: int | None = None,
  exif_rotate: bool = True,
) -> Iterator[Prediction]:
  """Classifies image files, each prepared as in the network's evaluation.

  All batches have one shape, so the network is compiled once.

  Args:
    trained: the network.
    paths: of image files.
    batch_size: images at a time.
    image_size: None for that of training.
    exif_rotate: whether to turn photographs upright by their EXIF orientation.

  Yields:
    The prediction for each file, in order.
  """
  config = trained.eval_config(min(batch_size, len(paths)), image_size)
  mesh = sharding.create_mesh(config.mesh)
  everywhere = sharding.replicated(mesh)
  with default_settings():
    infer = jax.jit(
      partial(_make_inference, model=trained.model, config=config),
      out_shardings=everywhere,
    )(jax.device_put(trained.variables, everywhere))
  predict = default_settings()(jax.jit(_predict, out_shardings=everywhere))
  for batch, outputs in run_batches(
    lambda batch: predict(infer, batch['image']),
    _read_batches(paths, config, exif_rotate),
    mesh,
    config.batch_size,
  ):
    for path, error, best, probabilities in zip(
      batch['path'],
      batch['error'],
      *outputs,
      strict=False,  # the last batch has more outputs than files
    ):
      if error is not None:
        yield Prediction(path, error=error)
      elif not np.isfinite(probabilities).all():
        raise UserError(
          f'the outputs of {trained.origin} are not finite for {path}; give '
          'other weights'
        )
      else:
        yield Prediction(
          path, tuple(best.tolist()), tuple(probabilities.tolist())
        )


def _make_inference(variables, *, model, config):
  return make_inference(model, variables, config.dataset, pack_weights=True)


def _predict(
  infer: Callable[[jax.Array], jax.Array], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the best classes `[B, 5]`, or all, and their probabilities."""
  shares = jax.nn.softmax(infer(images))
  probabilities, best = jax.lax.top_k(shares, min(5, shares.shape[-1]))
  return best, probabilities


def _read_batches(
  paths: Sequence[str], config: ml_collections.ConfigDict, exif_rotate: bool
) -> Iterator[HostBatch]:
  """Yields `image` and, of each, `path` and `error` (see `Prediction`).

  The image of a file that cannot be read is black.
  """
  images = grain.MapDataset.source(paths).map(
    partial(_read, config=config, exif_rotate=exif_rotate)
  )
  options = grain.ReadOptions(limits.num_cores(), 2 * config.batch_size)
  images = iter(images.to_iter_dataset(options))
  size = config.dataset.image_size
  black = np.zeros((size, size, 3), np.uint8)
  while read := list(itertools.islice(images, config.batch_size)):
    pixels = [black if image is None else image for _, image, _ in read]
    yield {
      'image': np.stack(pixels),
      'path': [path for path, _, _ in read],
      'error': [error for _, _, error in read],
    }


def _read(
  path: str, *, config: ml_collections.ConfigDict, exif_rotate: bool
) -> tuple[str, np.ndarray | None, str | None]:
  """Returns path, pixels for the network and None; or the error for them."""
  where = image_files.display_name(path)
  try:
    with open(path, 'rb') as file:
      data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
      raise UserError(f'{where} has more than {_MAX_BYTES:,} bytes')
    has_many = count_pixels(data) > _MANY_PIXELS
    with _many_pixels if has_many else contextlib.nullcontext():
      image = decode_image(data, where, exif_rotate)
      size = config.dataset.image_size
      return path, eval_transform(image, config.augment, size), None
  except MemoryError:
    return path, None, f'{where} needs more memory than there is'
  except OSError as error:
    return path, None, f'{where} cannot be read ({error.strerror or error})'
  except UserError as error:
    return path, None, str(error)
