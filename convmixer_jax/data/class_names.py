"""Names of classes: converts WordNet ids to words."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_SYNSET = re.compile(r'n\d{8}')


def imagenet_synsets() -> tuple[str, ...]:
  """Returns the WordNet ids of ImageNet's 1,000 classes, in TFDS's order."""
  import tensorflow_datasets as tfds

  path = 'datasets/imagenet2012/labels.txt'
  return tuple(tfds.core.tfds_path(path).read_text().split())


def readable(names: Sequence[str]) -> list[str]:
  """Returns human-readable names, such as 'tench' for 'n01440764'.

  Names are unchanged where they are not WordNet ids, or not among ImageNet's
  1,000.
  """
  if not all(_SYNSET.fullmatch(name) for name in names):
    return list(names)
  words = _imagenet_words()
  return [words.get(name, name) for name in names]


def find_outputs(known: Sequence[str], labels: Sequence[str]) -> np.ndarray:
  """Finds the output of a network for each class of a data set, by name.

  Args:
    known: names of the network's classes.
    labels: names of the data set's classes; WordNet ids may be words there.

  Returns:
    int `[K]`, for each of the K labels; -1 for those that are not known.
  """
  output_of = {name: output for output, name in enumerate(known)}
  return np.array(
    [
      output_of.get(name, output_of.get(word, -1))
      for name, word in zip(labels, readable(labels), strict=True)
    ]
  )


def are_imagenet_classes(names: Sequence[str]) -> bool:
  """Returns whether these are ImageNet's classes in order, as ids or words.

  Published lists of words differ in a few names: 'crane' is a bird and a
  machine.
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
  """Returns words by WordNet id: the first synonym, where that is unique.

  They come with TFDS, in the code of a data set that has ImageNet's labels.
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
