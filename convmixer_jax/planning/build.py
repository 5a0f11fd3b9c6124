"""Makes a plan: compiles the step of the config and of the largest batch."""

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections

from convmixer_jax import models
from convmixer_jax.data.repeated import steps_per_epoch
from convmixer_jax.distributed import sharding
from convmixer_jax.errors import UserError
from convmixer_jax.planning import compilation, report
from convmixer_jax.planning.chips import Chip
from convmixer_jax.planning.search import largest_that_fits
from convmixer_jax.training.batch_size import (
  check_batch_size,
  least_per_device,
)

_COMPILERS = ('libtpu', 'jax-cuda12-plugin', 'jax-cuda13-plugin')


def make_plan(
  config: ml_collections.ConfigDict,
  chip: Chip,
  devices: Sequence[Any],
  *,
  num_examples: int,
  num_classes: int,
  search: bool = True,
) -> dict[str, Any]:
  """Compiles the steps of the config's batch and of the largest that fits.

  Args:
    config: the whole config, which `training.validate.validate` accepts. A
      batch that does not divide over the devices is replaced by one group for
      each.
    chip: what the devices are.
    devices: from `topologies.describe_devices`, or real ones.
    num_examples: training images.
    num_classes: outputs of the head.
    search: whether to look for the largest batch.

  Returns:
    What `report.table` prints, JSON-serialisable. `steps` has the config's
    batch, if it fits, and the largest, if it is another.

  Raises:
    UserError: a field of the config is out of range, or there are fewer images
      than a batch takes.
  """
  network = models.find_architecture(config.model.name)
  for key, field in network.fields.items():
    others = field.cpu_only
    if chip.platform != 'cuda':
      others += field.gpu_only
    if config.model[key] in others:
      kind = 'CPUs' if config.model[key] in field.cpu_only else 'NVIDIA GPUs'
      raise UserError(
        f'config.model.{key} = {config.model[key]!r} is for {kind}; leave it '
        f'out for what {chip.name} uses'
      )
  mesh = sharding.create_mesh(config.mesh, devices)
  num_chips = len(devices)
  unit = least_per_device(config)
  compiled, notes = {}, []

  def measure(images_per_chip):
    """Returns whether this batch fits, and the bytes that it needs."""
    if images_per_chip not in compiled:
      compiled[images_per_chip] = _compile(
        _with_batch_size(config, images_per_chip * num_chips),
        devices,
        num_examples,
        num_classes,
      )
    step = compiled[images_per_chip]
    if isinstance(step, compilation.OutOfMemoryError):
      return False, step.num_bytes
    needed = sum(step.memory.values())
    return needed <= chip.memory, needed

  try:
    check_batch_size(config, num_chips)
    first = config.batch_size // num_chips
  except UserError as error:
    first = unit
    notes.append(f'{error}; planned for {first * num_chips}')
  if first % unit:
    notes.append(
      f'{first} images a chip are not a multiple of {unit}, so groups of '
      'images straddle chips, which then exchange images'
    )
  fits, needed = measure(first)
  if not fits:
    notes.append(
      f'{first} images a chip do not fit: they need {needed / 2**30:.2f} GiB'
    )
  chosen = [first] if fits else []
  largest = 'The largest batch was not searched for.'
  if search:
    most = max(num_examples // num_chips, unit)
    found, too_large = largest_that_fits(
      measure,
      start=-(-first // unit) * unit,
      unit=unit,
      most=most,
      capacity=chip.memory,
    )
    largest = report.largest_sentence(
      found, too_large, unit, 'remat' in config.model
    )
    chosen += [found] if found and found not in chosen else []
  return {
    'chip': {
      'name': chip.name,
      'flops': chip.flops,
      'bandwidth': chip.bandwidth,
      'memory': chip.memory,
    },
    'num_chips': num_chips,
    'mesh': dict(mesh.shape),
    'num_examples': num_examples,
    'num_classes': num_classes,
    'versions': _versions(),
    'scan': config.model.get('scan', False),
    'remat': config.model.get('remat', False),
    'notes': notes,
    'largest': largest,
    'steps': [
      report.summarize(
        config, compiled[b], chip, num_chips, num_examples, num_classes
      )
      for b in chosen
    ],
  }


def _with_batch_size(config, batch_size):
  changed = config.copy_and_resolve_references()
  changed.batch_size = batch_size
  return changed


def _compile(config, devices, num_examples, num_classes):
  print(f'compiling for {config.batch_size} images', file=sys.stderr)
  try:
    return compilation.compile_step(
      config,
      devices,
      num_classes=num_classes,
      steps_per_epoch=steps_per_epoch(num_examples, config),
    )
  except compilation.OutOfMemoryError as error:
    return error


def _versions():
  versions = {}
  for package in ('jax', *_COMPILERS):
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions
