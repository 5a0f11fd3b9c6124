"""A source of images of a Hugging Face set with several labels each."""

from typing import Any

import numpy as np

from convmixer_jax.data import labels as labels_lib
from convmixer_jax.data.hugging_face.columns import read_label_lists
from convmixer_jax.data.hugging_face.source import HuggingFaceSource


class LabelListSource(HuggingFaceSource):
  """A split whose labels are lists of classes, which may be empty.

  A slice takes its share of the images in a fixed order that looks random.

  Raises:
    UserError: as `HuggingFaceSource`; on reading, also if a label is out of
      range or given twice.
  """

  _is_multi_label = True

  def label(self, index: int) -> Any:
    """Returns the labels of an image, ascending."""
    return labels_lib.indices(
      super().label(index), self.num_classes, False, lambda: self.where(index)
    )

  def _read_labels(self, name, splits, wanted, column):
    return read_label_lists(name, splits, wanted, column)

  def _group(self, labels):
    return [np.arange(len(labels))], ['']
