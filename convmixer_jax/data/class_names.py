"""What classes are called: WordNet ids into words."""

import re
from collections import Counter
from collections.abc import Sequence

_SYNSET = re.compile(r'n\d{8}')


def imagenet_synsets() -> tuple[str, ...]:
  """Returns the WordNet ids of ImageNet's 1,000 classes, in TFDS's order."""
  import tensorflow_datasets as tfds

  path = 'datasets/imagenet2012/labels.txt'
  return tuple(tfds.core.tfds_path(path).read_text().split())


def readable(names: Sequence[str]) -> list[str]:
  """Returns the names for people to read: 'tench' for 'n01440764'.

  Names that are no WordNet ids, or none of ImageNet's 1,000, stay as they are.
  """
  if not all(_SYNSET.fullmatch(name) for name in names):
    return list(names)
  words = _imagenet_words()
  return [words.get(name, name) for name in names]


def are_imagenets(names: Sequence[str]) -> bool:
  """Whether these are ImageNet's classes in their order, as ids or in words.

  Lists of words differ in a few: 'crane' is a bird and a machine.
  """
  synsets = imagenet_synsets()
  if len(names) != len(synsets):
    return False
  known = _imagenet_words()
  same = [
    name == synset or name.partition(',')[0] == known[synset].partition(',')[0]
    for name, synset in zip(names, synsets, strict=True)
  ]
  return sum(same) > 0.95 * len(same)


def _imagenet_words() -> dict[str, str]:
  """WordNet's words by id: the first of the synonyms, where that is unique.

  They come with TFDS, in the code of a set whose labels are ImageNet's.
  """
  from tensorflow_datasets.datasets.siscore import labels

  synonyms = labels.IMAGENET_LABELS_LIST
  first = [words.partition(',')[0] for words in synonyms]
  count = Counter(first)
  return {
    synset: short if count[short] == 1 else words
    for synset, short, words in zip(
      imagenet_synsets(), first, synonyms, strict=True
    )
  }
