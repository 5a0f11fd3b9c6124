"""An augmentation function that was given as an object, and its check."""

from collections.abc import Callable

import ml_collections
import numpy as np

from convmixer_jax.config import image_shape
from convmixer_jax.data.augment.transforms import to_float
from convmixer_jax.data.examples import Source
from convmixer_jax.errors import UserError, user_code

# Of an image `[H, W, C]` and a generator; returns `[h, w, C]`.
TrainTransform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def apply(
  transform: TrainTransform,
  image: np.ndarray,
  rng: np.random.Generator,
  shape: tuple[int, int, int],
) -> np.ndarray:
  """Returns the augmented image, checked.

  Args:
    transform: of the user.
    image: uint8, uint16 or float32 `[H, W, C]`.
    rng: follows from the seed and the number of the example in the run.
    shape: `[h, w, C]` that it must have.

  Raises:
    UserError: the function fails, or returns another shape or dtype.
  """
  with user_code(
    f'train_transform fails for an image {image.dtype} {list(image.shape)}'
  ):
    result = transform(image.copy(), rng)  # a source may give its own array
  if not isinstance(result, np.ndarray):
    raise UserError(
      f'train_transform returns a {type(result).__name__}; return a NumPy array'
    )
  dtypes = {image.dtype.name, to_float(image[:1, :1]).dtype.name}
  if result.shape != tuple(shape) or result.dtype.name not in dtypes:
    raise UserError(
      f'train_transform returns {result.dtype} {list(result.shape)} for an '
      f'image {image.dtype} {list(image.shape)}; return '
      f'{" or ".join(sorted(dtypes))} {list(shape)}, the size being '
      'config.dataset.image_size'
    )
  return to_float(result)


def check(
  transform: TrainTransform, source: Source, dataset: ml_collections.ConfigDict
) -> None:
  """Applies the function to the first and to the last image of a source.

  Raises:
    UserError: it is not a function, fails, or returns something else.
  """
  if not callable(transform):
    raise UserError(
      f'train_transform is a {type(transform).__name__}; give a function of an '
      'image and a numpy.random.Generator'
    )
  for index in sorted({0, len(source) - 1}):
    image = source[index]['image']
    apply(transform, image, np.random.default_rng(0), image_shape(dataset))
