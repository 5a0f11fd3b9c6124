"""A trained network with its weights: what `load` and `Run.load` return."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from convmixer_jax.analysis.label_metrics import DEFAULT_THRESHOLD
from convmixer_jax.config import ImageSize, default_config, height_width
from convmixer_jax.data.class_names import (
  are_imagenet_classes,
  imagenet_synsets,
  readable,
)
from convmixer_jax.data.identity import Identity
from convmixer_jax.models import create_model, describe, find_architecture
from convmixer_jax.pretrained.explanations import Explaining
from convmixer_jax.pretrained.features import FeatureExtraction
from convmixer_jax.pretrained.inference import Inference

_NUM_IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class TrainedModel(Inference, FeatureExtraction, Explaining):
  """A network with its weights, and what is known of its images and classes.

  `logits(images)` and `predict(images)` apply it; see `Inference`. For
  `features(images)` and `backbone()`, see `FeatureExtraction`; for
  `explain(image)`, `Explaining`.

  Attributes:
    network: its name, as in `config.model.name`.
    fields: as in `config.model`; one that is missing has its default.
    num_classes: outputs of the head, K.
    variables: `params` and `batch_stats` (empty without BatchNorm), trees of
      arrays in float32: of NumPy from a file, of JAX on the first device of
      this process from a run.
    image_size: side of the images of training or (height, width), in pixels.
    eval_crop_fraction: side of the central crop, as a fraction of the resized
      image's.
    eval_interpolation: of the resize, 'bicubic' or 'bilinear'.
    mean: per channel, of pixels in [0, 1]; see `models.inference`.
    std: per channel.
    class_names: `[K]`, as the data set has them, such as 'n01440764'; None if
      unknown.
    assumed: which of the six attributes above the source does not contain, so
      that they are those of published networks.
    test_input: another size of images at which released weights are tested, and
      the crop fraction that evaluation then uses; None if there is none.
    eval_image_size: size of the images in evaluation, if it is another than
      that of training, `image_size`.
    data: identity of the data it was trained on (see `data.identity`); None if
      unknown.
    source: where it is from, as it was given; without the checkpoint of a run.
    step: of the run; None for weights.
    checkpoint: 'best' or 'newest', if that is why this step was chosen.
    ema: whether the variables are exponential moving averages of those of the
      run.
    config: of the run, whole; None for weights.
    metrics: what the run measured at this step on its held-out split, such as
      `eval_accuracy`; empty if nothing.
    dtype: name of the compute dtype.
    multi_label: whether it gives any number of classes for an image, by the
      sigmoid of its outputs, instead of one.
    thresholds: `[K]`, the probability from which each class is predicted, if it
      gives several; None if none were chosen, then 0.5 is used.
    thresholds_from: the data set and split they were chosen on, '' if unknown.
  """

  network: str
  fields: dict[str, Any]
  num_classes: int
  variables: dict[str, Any] = dataclasses.field(repr=False)
  image_size: ImageSize
  eval_crop_fraction: float
  eval_interpolation: str
  mean: tuple[float, ...]
  std: tuple[float, ...]
  class_names: tuple[str, ...] | None = None
  assumed: frozenset[str] = frozenset()
  test_input: tuple[ImageSize, float] | None = None
  eval_image_size: ImageSize | None = None
  data: Identity | None = None
  source: str = ''
  step: int | None = None
  checkpoint: Literal['best', 'newest'] | None = None
  ema: bool = False
  config: ml_collections.ConfigDict | None = None
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  dtype: str = 'float32'
  multi_label: bool = False
  thresholds: tuple[float, ...] | None = None
  thresholds_from: str = ''

  @classmethod
  def create(
    cls,
    network: str,
    fields: Mapping[str, Any],
    num_classes: int,
    variables: dict[str, Any],
    known: Mapping[str, Any],
    variant: str | None = None,
    **origin: Any,
  ) -> 'TrainedModel':
    """Creates one, and assumes what is not known of its images and classes.

    A thousand classes without names are assumed to be ImageNet's, and images to
    be as for the published networks of this architecture.

    Args:
      network: see above.
      fields: see above.
      num_classes: see above.
      variables: see above.
      known: some of `metadata.INPUT_KEYS`; None is the same as missing.
      variant: the published network that it is, if that is known.
      **origin: `source` and what follows it.
    """
    known = {key: value for key, value in known.items() if value is not None}
    if 'eval_crop_fraction' in known:  # before there was a choice
      known.setdefault('eval_interpolation', 'bicubic')
    architecture = find_architecture(network)
    usual = architecture.published_input(variant)
    channels = architecture.num_channels(variables['params'], fields)
    if channels not in (None, len(usual['mean'])):
      for key in ('mean', 'std'):  # no published one is right
        usual[key] = (math.fsum(usual[key]) / len(usual[key]),) * channels
    if num_classes == _NUM_IMAGENET_CLASSES:
      synsets = imagenet_synsets()
      usual['class_names'] = synsets
      if are_imagenet_classes(known.get('class_names', ())):
        known['class_names'] = synsets
    return cls(
      network=network,
      fields=dict(fields),
      num_classes=num_classes,
      variables=variables,
      assumed=frozenset(usual.keys() - known.keys()),
      **(usual | known),
      **origin,
    )

  @functools.cached_property
  def model(self) -> nn.Module:
    """The network: `model.apply(variables, images, train=False)`.

    Its images are prepared and normalised; those of `logits` need not be.
    """
    config = ml_collections.ConfigDict({'name': self.network, **self.fields})
    model = create_model(config, self.num_classes, self.dtype, self.image_size)
    return find_architecture(self.network).on_default_platform(model)

  @functools.cached_property
  def _accepted_sizes(self) -> set[tuple[int, int]]:
    """Sizes of images that the network takes, each of which was traced."""
    return set()

  @property
  def channels(self) -> int:
    """Channels of the images."""
    return len(self.mean)

  @property
  def image_dtype(self) -> str:
    """Dtype of the images of training: uint8 if nothing else is known."""
    return (self.data or {}).get('image_dtype', 'uint8')

  @property
  def origin(self) -> str:
    """Where it is from, for people: 'runs/digits, step 330 (best)'."""
    if self.step is None:
      return self.source
    chosen = f' ({self.checkpoint})' if self.checkpoint else ''
    return f'{self.source}, step {self.step}{chosen}{", EMA" * self.ema}'

  @property
  def loaded_line(self) -> str:
    """The first line of each command's output: what was loaded."""
    line = f'Loaded {self.origin}: {describe(self.model)}'
    if self.multi_label:
      line += f'; several labels an image, {self.describe_thresholds()}'
    return line

  @property
  def name(self) -> str:
    """What it is, for people: 'ConvMixer-256/8 of runs/digits, step 330'."""
    step = '' if self.step is None else f', step {self.step}'
    step += ', EMA' * self.ema
    return f'{describe(self.model)} of {self.source}{step}'

  def class_thresholds(self) -> np.ndarray:
    """Returns float64 `[K]`: `thresholds`, or 0.5 for each class."""
    if self.thresholds is None:
      return np.full(self.num_classes, DEFAULT_THRESHOLD)
    return np.array(self.thresholds, np.float64)

  def describe_thresholds(self) -> str:
    """Returns in words which thresholds are used."""
    if self.thresholds is None:
      return f'threshold {DEFAULT_THRESHOLD}'
    chosen_on = self.thresholds_from or 'unknown images'
    return f'thresholds chosen on {chosen_on}'

  def network_fields(self) -> dict[str, Any]:
    """Returns the fields that decide what the trained network computes."""
    names = find_architecture(self.network).names('network')
    return {name: self.fields[name] for name in names}

  def labels(self) -> list[str]:
    """Returns a name for each output, for people; else its number."""
    if self.class_names is None:
      return [str(output) for output in range(self.num_classes)]
    return readable(self.class_names)

  def eval_config(
    self, batch_size: int, image_size: ImageSize | None = None
  ) -> ml_collections.ConfigDict:
    """Returns the part of a config that evaluation reads.

    Args:
      batch_size: at least; rounded up to what the devices divide.
      image_size: None for that of the run's evaluation, or of training. The
        crop fraction stays, but at the size of `test_input`.

    Raises:
      UserError: the network does not take images of this size.
    """
    if image_size is None:
      image_size = self.eval_image_size or self.image_size
    size = height_width(image_size)
    if size not in self._accepted_sizes:
      find_architecture(self.network).check_image_size(
        self.model, self.variables, size, self.channels
      )
      self._accepted_sizes.add(size)
    crop_fraction = self.eval_crop_fraction
    if self.test_input is not None:
      test_size, test_crop_fraction = self.test_input
      if size == height_width(test_size):
        crop_fraction = test_crop_fraction
    devices = jax.device_count()
    trained_on = {} if self.config is None else self.config.dataset
    defaults = default_config(ml_collections.ConfigDict())
    return ml_collections.ConfigDict(
      {
        'batch_size': -(-batch_size // devices) * devices,
        'dataset': {
          'name': '',
          'data_dir': defaults.dataset.data_dir,
          'image_feature': trained_on.get(
            'image_feature', defaults.dataset.image_feature
          ),
          'label_feature': trained_on.get(
            'label_feature', defaults.dataset.label_feature
          ),
          'image_dtype': self.image_dtype,
          'image_size': image_size,
          'mean': self.mean,
          'std': self.std,
          'cache_mib': defaults.dataset.cache_mib,
          'exif_rotate': defaults.dataset.exif_rotate,
          'multi_label': self.multi_label,
        },
        'augment': {
          'eval_crop_fraction': crop_fraction,
          'eval_interpolation': self.eval_interpolation,
        },
        'input': defaults.input,
        'mesh': defaults.mesh,
      }
    )
