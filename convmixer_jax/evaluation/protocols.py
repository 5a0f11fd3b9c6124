"""The rules of test sets: which labels are right, which classes are used."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import ml_collections
import numpy as np
import tqdm

from convmixer_jax.data.class_names import find_outputs, readable
from convmixer_jax.data.folders.splits import (
  default_split as folder_default_split,
)
from convmixer_jax.data.hugging_face.source import (
  default_split as hugging_face_default_split,
)
from convmixer_jax.data.identity import are_numbers
from convmixer_jax.data.known_sets import base_name
from convmixer_jax.data.sources import (
  FOLDER,
  HUGGING_FACE,
  Source,
  create_source,
  prepared_builder,
)
from convmixer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class EvalProtocol:
  """The rules of a data set.

  Attributes:
    about: what is special, in words.
    label: the feature with the label, or with the sequence of right ones; None
      for `config.dataset.label_feature`.
    is_multi_label: whether it is a sequence.
    num_present: how many classes the set has images of, if only these are
      evaluated and the logits of others are left out; None: all are.
  """

  about: str = ''
  label: str | None = None
  is_multi_label: bool = False
  num_present: int | None = None


_PROTOCOLS = {
  # Beyer et al., "Are we done with ImageNet?", arXiv 2006.07159.
  'imagenet2012_real': EvalProtocol(
    "any of an image's labels is right; images without a label are left out",
    label='real_label',
    is_multi_label=True,
  ),
  # Hendrycks et al., "Natural Adversarial Examples", arXiv 1907.07174.
  'imagenet_a': EvalProtocol(
    'only 200 of 1,000 classes are evaluated', num_present=200
  ),
  # Hendrycks et al., "The Many Faces of Robustness", arXiv 2006.16241.
  'imagenet_r': EvalProtocol(
    'only 200 of 1,000 classes are evaluated', num_present=200
  ),
}


def protocol_of(name: str) -> EvalProtocol:
  """Returns the rules of a set, with /config and :version or without.

  ImageNet-V2 and ImageNet-Sketch are scored as ImageNet itself.
  """
  return _PROTOCOLS.get(base_name(name), EvalProtocol())


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes of an evaluation, K of them.

  Attributes:
    names: of the K, as the data set has them.
    outputs: `[K]`, the output of the network that stands for each.
    label_to_index: for each label of the data set its index among the K, or -1.
    note: a line on how they were matched, '' if there is nothing to say.
  """

  names: tuple[str, ...]
  outputs: np.ndarray
  label_to_index: np.ndarray
  note: str = ''

  def only(self, labels: Sequence[int]) -> 'Classes':
    """Returns the classes of these labels alone, out of all."""
    indices = np.asarray(labels)
    label_to_index = np.full_like(self.label_to_index, -1)
    label_to_index[indices] = np.arange(len(labels))
    names = tuple(self.names[label] for label in labels)
    return Classes(names, self.outputs[indices], label_to_index, self.note)


def open_test_set(
  config: ml_collections.ConfigDict,
  split: str,
  known: Sequence[str] | None,
  num_outputs: int,
) -> tuple[Source, Classes]:
  """Opens a data set by its rules.

  Args:
    config: `config.dataset`.
    split: see `create_source`.
    known: names of the network's classes, None if unknown.
    num_outputs: of the network.

  Raises:
    UserError: see `create_source` and `match_classes`.
  """
  protocol = protocol_of(config.name)
  if protocol.is_multi_label:
    config = config.copy_and_resolve_references()
    config.multi_label = True
  source = create_source(config, split, protocol.label)
  classes = match_classes(known, num_outputs, source.class_names)
  if protocol.num_present is not None:
    classes = classes.only(labels_present(config.name, config.data_dir))
  return source, classes


def match_classes(
  known: Sequence[str] | None, num_outputs: int, labels: Sequence[str]
) -> Classes:
  """Finds the output of the network for each class of a data set, by name.

  So a network of ImageNet's 1,000 classes can be evaluated on ten of them, and
  one of ten other classes is not by mistake. Where either has no names, only
  numbers, the order cannot be checked.

  Args:
    known: names of the network's classes; None if unknown.
    num_outputs: of the network.
    labels: names of the data set's classes.

  Raises:
    UserError: the network lacks classes of the set, or there are no names and
      the set has another number of classes.
  """
  label_to_index = np.arange(len(labels))
  nameless = [
    f'the {owner} has only numbers for the names of its classes'
    for owner, names in (('network', known), ('data set', labels))
    if names is not None and are_numbers(names)
  ]
  is_unknown = known is None
  known = known or ()
  if is_unknown:
    nameless = ["the names of the network's classes are unknown"]
  if nameless and num_outputs != len(labels):
    raise UserError(
      f'the network has {num_outputs} classes and the data set {len(labels)}, '
      f'and {nameless[0]}; choose the set it was trained on, or another with '
      'the same classes'
    )
  if nameless and set(known) != set(labels):
    note = (
      f'WARNING: {nameless[0]}; they are assumed to be in the same order, '
      'which cannot be checked'
    )
    return Classes(tuple(labels), label_to_index, label_to_index, note)
  outputs = find_outputs(known, labels)
  if outputs.min() >= 0:
    _require_unique(known, outputs)
    note = ''
    if nameless:
      note = (
        f'WARNING: {nameless[0]}, so it cannot be checked that they are the '
        'same classes'
      )
    elif len(outputs) == num_outputs and (outputs != label_to_index).any():
      note = (
        'The classes are in another order than in training; they are matched '
        'by name'
      )
    return Classes(tuple(labels), outputs, label_to_index, note)
  unknown = np.flatnonzero(outputs < 0)
  example = readable(labels)[unknown[0]]
  raise UserError(
    f'the network does not have {len(unknown)} of the {len(labels)} classes of '
    f'the data set, such as {example!r}; it has '
    f'{", ".join(map(repr, readable(known[:3])))} and so on; choose a set of '
    'classes that it has'
  )


def _require_unique(known, outputs):
  """Raises UserError if the network has several outputs for a class."""
  counts = Counter(known)
  for name in (known[output] for output in outputs):
    if counts[name] > 1:
      raise UserError(
        f'the network has {counts[name]} classes called {name!r}, so the '
        'classes of the data set cannot be matched by name; correct its names'
      )


def labels_present(name: str, data_dir: str) -> list[int]:
  """Returns the labels that a set has images of, in any split, ascending.

  All records are read, but no image is decoded.
  """
  import tensorflow_datasets as tfds

  builder = prepared_builder(name, data_dir)
  skip = {'image': tfds.decode.SkipDecoding()}
  found = set()
  for split in builder.info.splits:
    source = builder.as_data_source(split, decoders=skip)
    numbers = tqdm.tqdm(
      range(len(source)),
      'Finding the classes of the set',
      leave=False,
      disable=None,
      unit=' images',
    )
    found |= {int(source[number]['label']) for number in numbers}
  return sorted(found)


def default_split(name: str, data_dir: str) -> str:
  """Returns the held-out split of a set; of a folder without one, all images.

  Raises:
    UserError: it has several splits and none is called validation or test.
  """
  if name == 'digits':
    return 'test'
  if name == FOLDER:
    return folder_default_split(data_dir)
  if name.startswith(HUGGING_FACE):
    return hugging_face_default_split(name, data_dir)
  splits = list(prepared_builder(name, data_dir).info.splits)
  held_out = [split for split in ('validation', 'test') if split in splits]
  if not held_out and len(splits) > 1:
    raise UserError(
      f'{name!r} has the splits {", ".join(splits)}; name the one to evaluate'
    )
  return (held_out or splits)[0]
