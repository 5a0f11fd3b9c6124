"""Names and sizes of data sets, known without the sets themselves."""

import re

import ml_collections

from convmixer_jax import files
from convmixer_jax.data.folders.file_source import NAME as FOLDER
from convmixer_jax.data.hugging_face.loading import PREFIX as HUGGING_FACE
from convmixer_jax.data.hugging_face.loading import short_name
from convmixer_jax.own_names import PREFIX as OBJECT

# Numbers of examples by split, from TFDS's catalog.
NUM_EXAMPLES = {
  'imagenet2012': {'train': 1_281_167, 'validation': 50_000},
  'imagenet2012_real': {'validation': 50_000},
  'imagenet_v2': {'test': 10_000},
  'imagenet_a': {'test': 7_500},
  'imagenet_r': {'test': 30_000},
  'imagenet_sketch': {'test': 50_889},
  'imagenette/full-size-v2': {'train': 9_469, 'validation': 3_925},
  'imagenette/320px-v2': {'train': 9_469, 'validation': 3_925},
  'imagenette/160px-v2': {'train': 9_469, 'validation': 3_925},
  'cifar10': {'train': 50_000, 'test': 10_000},
  'cifar100': {'train': 50_000, 'test': 10_000},
}

# Numbers of classes of the sets that can be planned for before they are
# prepared.
NUM_CLASSES = {'imagenet2012': 1000, 'cifar10': 10}

# Data sets of TFDS by their names on the Hugging Face Hub.
_ON_HUB = {
  'imagenet2012': 'ILSVRC/imagenet-1k',
  'cifar10': 'uoft-cs/cifar10',
  'cifar100': 'uoft-cs/cifar100',
}


def base_name(name: str) -> str:
  """Returns the name of a data set without /config and :version.

  That is its name in the identity of the data. Of the Hugging Face Hub, it has
  neither a revision nor the path of a directory; that of an object is whole.
  """
  if name.startswith(HUGGING_FACE):
    return short_name(name)
  if name.startswith(OBJECT):
    return name
  return re.split('[/:]', name)[0]


def hub_name(name: str) -> str | None:
  """Returns OWNER/NAME of a data set that is on the hub; None of others."""
  if name.startswith(HUGGING_FACE):
    parts = short_name(name).removeprefix(HUGGING_FACE).split('/')
    return '/'.join(parts[:2]) if len(parts) > 1 else None
  return _ON_HUB.get(base_name(name))


def data_name(name: str, dataset: ml_collections.ConfigDict) -> str:
  """Returns the name of a data set for people: a folder's own, if it is one.

  Args:
    name: of the data set.
    dataset: `config.dataset`.
  """
  if name == FOLDER:
    return files.absolute_path(dataset.data_dir).name or name
  return name or 'images'
