"""Everything that a run needs, built and checked before anything is written."""

import contextlib
import dataclasses
import os
from typing import Any

import jax
import ml_collections
from etils import epath
from jax.sharding import Mesh

from convmixer_jax import config as config_lib
from convmixer_jax import files
from convmixer_jax.checkpoints import parts, workdir
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.data import identity, label_counts, repeated, sources
from convmixer_jax.data.check_images import check_images
from convmixer_jax.data.own_transform import TrainTransform
from convmixer_jax.distributed import agreement, sharding
from convmixer_jax.errors import UserError
from convmixer_jax.models import architecture_of
from convmixer_jax.notes import note
from convmixer_jax.own_names import unwrap
from convmixer_jax.training import changes, from_data, initialize
from convmixer_jax.training.batch_size import check_batch_size
from convmixer_jax.training.on_device.batches import DeviceImages
from convmixer_jax.training.own_parts import OwnParts
from convmixer_jax.training.trainer import Trainer, create_trainer
from convmixer_jax.training.validate import validate


@dataclasses.dataclass(frozen=True)
class Setup:
  """A run that can start.

  Attributes:
    config: the whole config.
    directory: the run directory, which may not exist yet.
    mesh: the devices.
    train_source: the training split.
    eval_source: the held-out split.
    data: identity of both.
    steps_per_epoch: updates in an epoch.
    num_steps: updates in the whole run.
    trainer: network, optimizer and steps.
    saved_steps: those that have a checkpoint in the directory.
    label_notes: lines on images without classes and classes without images,
      with several labels an image.
    part_names: of the parts that were given as objects and have no content to
      compare.
    train_transform: augments an image in place of the config; None if it does.
    pretrained: variables that a new run starts with, on the host.
    device_images: the images on the devices; None if they stay on the host.
  """

  config: ml_collections.ConfigDict
  directory: epath.Path
  mesh: Mesh
  train_source: sources.Source
  eval_source: sources.Source
  data: identity.Identity
  steps_per_epoch: int
  num_steps: int
  trainer: Trainer
  saved_steps: list[int]
  label_notes: list[str]
  part_names: dict[str, str]
  train_transform: TrainTransform | None
  pretrained: dict[str, Any] = dataclasses.field(repr=False)
  device_images: DeviceImages | None


def set_up(
  config: ml_collections.ConfigDict,
  workdir_path: str | os.PathLike[str],
  own: OwnParts = OwnParts(),  # noqa: B008 (it is frozen)
) -> Setup:
  """Builds what a run needs, and compares it between all processes.

  Args:
    config: the whole config.
    workdir_path: the run directory; see `loop.train_and_evaluate`.
    own: parts in place of those of the config.

  Raises:
    UserError: the config, the data or the directory is wrong, or processes
      differ; nothing was written.
  """
  with agreement.require_same_on_all_processes() as fingerprint:
    directory = files.absolute_path(workdir_path)
    if isinstance(config, ml_collections.FrozenConfigDict):
      config = ml_collections.ConfigDict(config)  # parts are set in it
    if own.train_source is None:
      config = from_data.complete(config, directory)
    validate(config)
    if own.optimizer is None and jax.process_index() == 0:
      _note_unread_options(config)
    part_names = own.names()
    dataset = config.dataset  # one split of which may be used
    config = own.apply_to(config)
    mesh = sharding.create_mesh(config.mesh)
    check_batch_size(config, mesh.size)
    workdir.check_workdir(directory, config)
    parts.check_parts(directory, part_names)

    train_source, eval_source = own.open_sources(dataset)
    sources.require_classes(train_source)
    check_images(train_source, config)
    own.check_against(train_source, config)
    label_notes = []
    if config.dataset.multi_label:
      label_counts.require_memory(eval_source)
      label_notes = label_counts.notes(train_source, eval_source)
    steps_per_epoch = repeated.steps_per_epoch(len(train_source), config)
    data = identity.identify(train_source, eval_source)
    workdir.check_data(directory, data)

    trainer = create_trainer(
      config,
      mesh,
      num_classes=train_source.num_classes,
      steps_per_epoch=steps_per_epoch,
      optimizer=unwrap(own.optimizer),
    )
    if config.augment.eval_image_size:
      _check_eval_size(trainer, config)
    saved_steps = _find_checkpoints(directory)
    changes.require_not_shorter(
      directory, max(saved_steps, default=0), config, steps_per_epoch
    )
    pretrained = {}
    if not saved_steps:
      pretrained = initialize.load_pretrained(
        config, trainer.model, train_source.class_names
      )
    read_table(directory / 'metrics.csv')  # refuses one of another program

    fingerprint |= agreement.collect_fingerprint(
      config,
      directory,
      saved_steps,
      {'train_split': train_source, 'eval_split': eval_source},
    ) | identity.fingerprint(data)
    fingerprint |= part_names
    device_images = None
    if config.input.on_device:
      if own.train_transform is not None:
        raise UserError(
          'config.input.on_device = True is for what config.augment does, and '
          'train_transform is a function that the host calls; set it to False'
        )
      device_images = DeviceImages(train_source, eval_source, config, mesh)
  return Setup(
    config=config,
    directory=directory,
    mesh=mesh,
    train_source=train_source,
    eval_source=eval_source,
    data=data,
    steps_per_epoch=steps_per_epoch,
    num_steps=config_lib.num_train_steps(config, steps_per_epoch),
    trainer=trainer,
    saved_steps=saved_steps,
    label_notes=label_notes,
    part_names=part_names,
    train_transform=unwrap(own.train_transform),
    pretrained=pretrained,
    device_images=device_images,
  )


def _note_unread_options(config):
  for name in config_lib.unread_options(config):
    note(
      f'config.{name} = {config[name]} is not read by config.optimizer = '
      f'{config.optimizer!r}'
    )


def _check_eval_size(trainer, config):
  """Raises UserError if the network takes images of its training size only."""
  size = config.augment.eval_image_size
  model, state = trainer.model, trainer.state
  try:
    architecture_of(model).check_image_size(
      model,
      {'params': state.params, 'batch_stats': state.batch_stats},
      size,
      config_lib.num_channels(config.dataset),
    )
  except UserError as error:
    raise UserError(
      f'config.augment.eval_image_size = {size} is not for this network: '
      f'{error}'
    ) from error


def _find_checkpoints(directory):
  with contextlib.closing(CheckpointReader(directory)) as reader:
    return reader.steps()
