"""Checks that the features of a TFDS data set can be trained on."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from convmixer_jax.errors import UserError


def find_class_names(
  name: str,
  features: Mapping[str, Any],
  label: str,
  image: str = 'image',
  *,
  is_multi_label: bool,
) -> tuple[str, ...]:
  """Returns the names of the classes that a feature has the labels of.

  Args:
    name: of the data set.
    features: TFDS's features of the data set.
    label: name of the feature.
    image: name of that of the images, or several with commas.
    is_multi_label: whether it must have several labels for an image, or one.

  Raises:
    UserError: there are no images and labels, or the labels are not such.
  """
  import tensorflow_datasets as tfds

  where = f'config.dataset.name = {name!r}'
  required = {label, *split_names(image)}
  if not required <= set(features):
    raise UserError(
      f'{where} has the features {", ".join(features)}, but {image} and '
      f'{label} are required; choose a data set of images with labels, or name '
      'its features: --config.dataset.image_feature=NAME '
      '--config.dataset.label_feature=NAME'
    )
  feature = features[label]
  has_several = isinstance(feature, tfds.features.Sequence)
  if is_multi_label:
    if is_multi_hot(feature):
      return tuple(map(str, range(feature.shape[0])))
    if isinstance(feature, tfds.features.ClassLabel):
      raise UserError(
        f'{where}: its feature {label} is one class for an image, and '
        'config.dataset.multi_label = True is for several; set it to False, or '
        'choose another data set'
      )
  classes = feature.feature if has_several else feature
  if not isinstance(classes, tfds.features.ClassLabel):
    raise UserError(
      f'{where}: its feature {label} is {_describe(feature)}, not the class of '
      "the image; store it as TFDS's ClassLabel, or choose another data set"
    )
  if not classes.num_classes:
    raise UserError(
      f'{where}: its feature {label} does not define classes; give its '
      'ClassLabel their names or number, or choose another data set'
    )
  if has_several and not is_multi_label:
    raise UserError(
      f'{where}: its feature {label} has several labels for an image, and one '
      "is required; store one as TFDS's ClassLabel, train with "
      'config.dataset.multi_label = True, or choose another data set'
    )
  for class_name, count in Counter(classes.names).items():
    if count > 1:
      raise UserError(
        f'{where}: {count} of its classes are called {class_name!r}; give each '
        'class a name of its own'
      )
  return tuple(classes.names)


def split_names(image_feature: str) -> list[str]:
  """Returns the names of features that `config.dataset.image_feature` lists."""
  return [name.strip() for name in image_feature.split(',')]


def is_multi_hot(feature: Any) -> bool:
  """Returns whether a feature is a vector of whole numbers or of bool."""
  import tensorflow_datasets as tfds

  return (
    type(feature) is tfds.features.Tensor
    and len(feature.shape) == 1
    and (feature.shape[0] or 0) > 0
    and np.dtype(feature.np_dtype).kind in 'biu'
  )


def check_number_of_names(
  name: str, directory: epath.Path, label: str, class_names: Sequence[str]
) -> None:
  """Checks that a prepared data set has as many names as classes.

  TFDS itself takes the number of names.

  Args:
    name: of the data set.
    directory: of its files.
    label: name of the feature.
    class_names: that TFDS has read.

  Raises:
    UserError: there are more names or fewer.
  """
  path = directory / 'features.json'
  try:
    features = json.loads(path.read_text())['featuresDict']['features']
    feature = features[label].get('sequence', {}).get('feature')
    number = int((feature or features[label])['classLabel']['numClasses'])
  except (OSError, LookupError, ValueError):  # of an older version of TFDS
    return
  if number != len(class_names):
    raise UserError(
      f'config.dataset.name = {name!r} has {number} classes and the names of '
      f'{len(class_names)}; correct {directory / label}.labels.txt'
    )


def _describe(feature):
  """Returns such as 'Text', or 'a float32 array of shape (3,)'."""
  kind = type(feature).__name__
  if kind not in ('Tensor', 'Scalar'):
    return kind
  dtype = np.dtype(feature.np_dtype).name
  return f'an array of {dtype} and shape {feature.shape}'
