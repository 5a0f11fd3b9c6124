"""A trained network, of a run or from weights, and how images come to it."""

import dataclasses
from typing import Any

import jax
import ml_collections
from flax import linen as nn

from convmixer_jax.data.class_names import (
  are_imagenet_classes,
  imagenet_synsets,
  readable,
)
from convmixer_jax.errors import UserError
from convmixer_jax.models import architecture_of, describe, find_architecture
from convmixer_jax.pretrained.runs import Run, load_run


@dataclasses.dataclass(frozen=True)
class Trained:
  """A network with its weights, and how images come to it.

  Attributes:
    name: what it is, for people to read.
    model: the network.
    variables: its `params` and `batch_stats`.
    image_size: side of the square it was evaluated on, in pixels.
    eval_crop_fraction: what the central crop takes of the resized image's side.
    mean: per channel, of pixels in [0, 1].
    std: per channel.
    class_names: as the data set has them, such as 'n01440764', or None if
      nobody noted them.
    dataset: `config.dataset` of the run, None if it is not known.
    run: the run it is of, None for weights.
    step: of the run, None for weights.
  """

  name: str
  model: nn.Module
  variables: dict[str, Any]
  image_size: int
  eval_crop_fraction: float
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  class_names: tuple[str, ...] | None
  dataset: ml_collections.ConfigDict | None
  run: Run | None = None
  step: int | None = None

  def labels(self) -> list[str]:
    """Returns a name for each output, for people to read; else its number."""
    if self.class_names is None:
      return [str(output) for output in range(self.model.num_classes)]
    return readable(self.class_names)

  def eval_config(
    self, batch_size: int, image_size: int | None = None
  ) -> ml_collections.ConfigDict:
    """Returns the part of a config that evaluation reads.

    Args:
      batch_size: at least; rounded up to what the devices divide.
      image_size: None for that of training. The crop fraction stays.

    Raises:
      UserError: the network does not take images of this size.
    """
    image_size = self.image_size if image_size is None else image_size
    architecture_of(self.model).check_image_size(
      self.model, self.variables, image_size
    )
    devices = jax.device_count()
    return ml_collections.ConfigDict(
      {
        'batch_size': -(-batch_size // devices) * devices,
        'dataset': {
          'name': '',
          'data_dir': '',
          'image_size': image_size,
          'mean': self.mean,
          'std': self.std,
          'cache_mib': 1024,
        },
        'augment': {'eval_crop_fraction': self.eval_crop_fraction},
        'input': {'num_threads': 0, 'num_workers': -1, 'prefetch': 4},
        'mesh': {'data': -1, 'fsdp': 1},
      }
    )


def from_run(workdir: str, step: str | None = None) -> Trained:
  """Takes the network of a run.

  Args:
    workdir: of the run.
    step: 'best', the number of a checkpoint, or None for the newest.

  Raises:
    UserError: see `load_run` and `Run.restore`.
  """
  if step not in (None, 'best'):
    if not step.isdecimal():
      raise UserError(f"--step={step} is neither a whole number nor 'best'")
    step = int(step)
  run = load_run(workdir)
  step = run.find_step(step)
  model, variables = run.restore(step)
  dataset = run.config.dataset
  return Trained(
    name=f'{describe(model)} of {workdir}, step {step}',
    model=model,
    variables=variables,
    image_size=dataset.image_size,
    eval_crop_fraction=run.config.augment.eval_crop_fraction,
    mean=dataset.mean,
    std=dataset.std,
    class_names=run.class_names,
    dataset=dataset,
    run=run,
    step=step,
  )


def from_weights(source: str, model: str | None = None) -> Trained:
  """Takes weights that are no run's, as `weights.load` does.

  A thousand classes without names are taken for ImageNet's, and what the file
  does not tell of the images is taken to be as for the released weights.

  Raises:
    UserError: see `weights.load`.
  """
  from convmixer_jax.pretrained import weights

  loaded = weights.load(source, model)
  architecture = find_architecture(loaded.network)
  network = loaded.create_model()
  class_names, imagenets = loaded.labels, imagenet_synsets()
  is_unnamed = class_names is None and loaded.num_classes == len(imagenets)
  if is_unnamed or (class_names and are_imagenet_classes(class_names)):
    class_names = imagenets
  known = {
    key: default if getattr(loaded, key) is None else getattr(loaded, key)
    for key, default in architecture.default_input.items()
  }
  return Trained(
    name=f'{describe(network)} of {source}',
    model=network,
    variables=loaded.variables,
    class_names=class_names,
    dataset=None,
    **known,
  )
