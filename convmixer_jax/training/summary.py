"""The first lines of a run, which say what is trained on what, and where."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import ml_collections

from convmixer_jax import limits, models
from convmixer_jax.analysis import flops
from convmixer_jax.config import describe_size, num_channels
from convmixer_jax.data.known_sets import data_name
from convmixer_jax.training.accelerators import unused_accelerator
from convmixer_jax.training.setup import Setup

_TITLE_WIDTH = 11


def aligned(rows: Sequence[tuple[str, str]]) -> str:
  """Returns lines of a title and a text each; an empty title continues."""
  return '\n'.join(f'{title:{_TITLE_WIDTH}}{text}' for title, text in rows)


def describe_start(setup: Setup, first_step: int) -> str:
  """Returns lines on devices, data, network, length and directory of a run.

  Args:
    setup: of the run.
    first_step: the step that training starts after.
  """
  config, mesh = setup.config, setup.mesh
  device_batch = config.batch_size // mesh.size
  accum = f' in {config.accum_steps} passes' if config.accum_steps > 1 else ''
  state = 'new'
  if first_step:
    state = 'all steps made' if first_step >= setup.num_steps else 'resumed'
  num_parameters = sum(
    leaf.size for leaf in jax.tree.leaves(setup.trainer.state.params)
  )
  data = data_name(setup.train_source.origin.name, config.dataset)
  rows = [
    ('Devices', _describe_devices(mesh.devices.flat)),
    (
      'Mesh',
      f'{" x ".join(f"{name} {size}" for name, size in mesh.shape.items())}: '
      f'{count(config.batch_size, "image")} an update, {device_batch:,} on '
      f'each device{accum}',
    ),
    ('Data', f'{data}: {_describe_splits(setup)}'),
    *_describe_device_images(setup),
    ('Network', describe_network(setup.trainer.model, config, num_parameters)),
    (
      'Length',
      f'{count(setup.num_steps, "step")}; epochs: '
      f'{setup.num_steps / setup.steps_per_epoch:.4g}, each of '
      f'{count(setup.steps_per_epoch, "step")}{_describe_repeats(setup)}',
    ),
    ('Directory', f'{setup.directory} ({state})'),
  ]
  if warning := unused_accelerator():
    rows.insert(0, ('Warning', warning))
  return aligned(rows)


def run_name(setup: Setup) -> str:
  """Returns the network and its data, such as 'ConvMixer-64/4 on digits'."""
  data = data_name(setup.train_source.origin.name, setup.config.dataset)
  return f'{models.describe(setup.trainer.model)} on {data}'


def count(number: int, noun: str) -> str:
  """Returns a number and a noun, in the plural if it has to be."""
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def _describe_devices(devices):
  devices = list(devices)
  platform, kind = devices[0].platform, devices[0].device_kind
  if platform == 'cpu':
    text = f'{count(len(devices), "CPU device")} ({limits.num_cores()} cores)'
  else:
    text = f'{len(devices)} x {kind} ({platform.upper()})'
  if (processes := jax.process_count()) > 1:
    text += f', {processes} processes'
  return f'{text}, JAX {jax.__version__}'


def _describe_splits(setup):
  train, held_out = (
    count(len(source), 'image')
    + (f' ({source.origin.split})' if source.origin.split else '')
    for source in (setup.train_source, setup.eval_source)
  )
  num_classes = setup.train_source.num_classes
  classes = f'{num_classes:,} class{"" if num_classes == 1 else "es"}'
  if setup.eval_source.num_classes != num_classes:
    classes += f', {setup.eval_source.num_classes:,} of the held-out images'
  if setup.config.dataset.multi_label:
    classes += ', any number of them for an image'
  return f'{train} for training, {held_out} held out; {classes}'


def _describe_device_images(setup):
  """Returns a row on images that stay on the devices, if they do."""
  if setup.device_images is None:
    return []
  size = setup.device_images.num_bytes / 2**20
  return [('', f'on each device, {size:,.0f} MiB')]


def _describe_repeats(setup):
  """Returns how many images an epoch has, if each is there several times."""
  repeats = setup.config.repeated_augmentation
  if repeats == 1:
    return ''
  rows = setup.steps_per_epoch * setup.config.batch_size
  return f' and {count(-(-rows // repeats), "image")}, {repeats} times each'


def describe_network(
  model: nn.Module, config: ml_collections.ConfigDict, num_parameters: int
) -> str:
  """Returns a network's name, parameters and GMACs for an image.

  Args:
    model: the network.
    config: the whole config.
    num_parameters: of the network.
  """
  size, channels = config.dataset.image_size, num_channels(config.dataset)
  macs = flops.count_forward(model, size, channels=channels).total
  return (
    f'{models.describe(model)}: {num_parameters:,} parameters, '
    f'{macs / 1e9:.3g} GMACs for {describe_size(size)} x {channels}, '
    f'{config.dtype}'
  )
