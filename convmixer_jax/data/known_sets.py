"""Names and sizes of data sets, known without the sets themselves."""

import re

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


def base_name(name: str) -> str:
  """Returns the name of a data set without /config and :version.

  Of the Hugging Face Hub the whole name, without @REVISION.
  """
  if name.startswith('hf:'):
    return name.partition('@')[0]
  return re.split('[/:]', name)[0]
