"""Fills the rows of a comparison, one network after the other.

Counts come first, for all networks; then speed and memory; then accuracy. The
files are written after each value, so that an interruption keeps them, and the
next start with the same directory measures only what is missing.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

from etils import epath

from convmixer_jax import files
from convmixer_jax.analysis import flops, plots
from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase
from convmixer_jax.benchmarks.comparison import (
  accuracy,
  measure,
  picture,
  report,
)
from convmixer_jax.benchmarks.comparison.networks import (
  NETWORKS,
  NUM_CLASSES,
  Network,
)
from convmixer_jax.benchmarks.comparison.paper import PAPER
from convmixer_jax.benchmarks.comparison.rows import NAME, Rows
from convmixer_jax.benchmarks.machine import (
  count_usable_cores,
  describe_machine,
)
from convmixer_jax.config import ImageSize
from convmixer_jax.errors import UserError

CSV, MARKDOWN, PICTURE = 'compare.csv', 'compare.md', 'compare.png'
FILES = (NAME, CSV, MARKDOWN, PICTURE)
_DEFAULT_BATCH = {'cpu': 4}  # by platform
_ACCELERATOR_BATCH = 64
_MEASURED = ('measured_top1', 'measured_weights', 'measured_on', 'images')


@dataclasses.dataclass(frozen=True)
class Options:
  """What to measure.

  Attributes:
    batch_size: images of a step; None: 4 on a CPU, 64 on an accelerator.
    image_size: side of the images in pixels; None: each network's own.
    dtype: compute dtype.
    speed: whether to measure speed and memory.
    training: whether of the training step, too.
    test: how to measure accuracies; None: not.
  """

  batch_size: int | None = None
  image_size: int | None = None
  dtype: str = 'float32'
  speed: bool = True
  training: bool = True
  test: accuracy.Test | None = None


def run(
  networks: Sequence[Network],
  options: Options,
  directory: epath.Path | None = None,
  say: Callable[[str], None] = print,
) -> Rows:
  """Compares networks.

  Args:
    networks: in the order of the rows.
    options: what to measure.
    directory: for the files; None for none. Rows of an earlier comparison there
      are kept, but of a network of the user's whose counts differ now.
    say: called with a line after each measurement.

  Raises:
    UserError: the directory has a comparison with other settings, or a network
      does not take the images.
    OSError: a file cannot be written.
  """
  settings: dict[str, Any] = {'image_size': options.image_size or 'own'}
  platform = ''
  if options.speed:
    platform, machine = _describe_machine(options)
    settings |= machine
  rows = Rows(settings, directory)
  for network in networks:
    size = options.image_size or network.image_size
    is_own = network.name not in NETWORKS
    if is_own or rows.value(network.name, 'activations') is None:
      counted = count(network, size)
      before = rows.by_name.get(network.name, {})
      if any(before.get(key) != counted[key] for key in counted):  # changed
        rows.drop(network.name, list(before))
      rows.add(network.name, counted | find_published(network))
  rows.move_first(PAPER)  # also where earlier rows were of others
  write(rows, directory)
  steps = _list_steps(networks, options, platform, rows)
  for network, kind, values in steps:
    failed = dict(rows.value(network.name, 'failed') or {})
    failed.pop(kind, None)
    if 'failed' in values:
      failed[kind] = values['failed']
      values = {}
    rows.add(network.name, values | {'failed': failed})
    write(rows, directory)
    shown = failed.get(kind) or ', '.join(
      f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}'
      for key, value in values.items()
      if key != 'images'
    )
    say(f'{network.name}: {shown}')
  if directory is not None:
    for line in picture.describe_left_out(rows):
      say(f'{PICTURE}: {line}')
  return rows


def list_failed(
  networks: Sequence[Network], options: Options, rows: Rows
) -> list[str]:
  """Returns what was asked for and could not be measured: 'deit_b train'."""
  asked = [*_kinds(options), *(['top-1'] if options.test else [])]
  return [
    f'{network.name} {kind}'
    for network in networks
    for kind in rows.value(network.name, 'failed') or {}
    if kind in asked
  ]


def _kinds(options):
  """Returns the kinds of steps whose speed is measured."""
  if not options.speed:
    return []
  return ['forward', 'train'] if options.training else ['forward']


def _describe_machine(options):
  """Returns the platform, and the settings that decide speeds."""
  try:
    found = measure.find_device()
  except (OSError, ValueError, TimeoutError) as error:
    raise UserError(
      f'JAX finds no device ({error}); --nospeed compares without measuring'
    ) from error
  machine, platform = describe_machine(), found['platform']
  batch_size = options.batch_size or _DEFAULT_BATCH.get(
    platform, _ACCELERATOR_BATCH
  )
  return platform, {
    'batch_size': batch_size,
    'dtype': options.dtype,
    'device': found['device'].upper() if platform == 'cpu' else found['device'],
    'processor': machine['processor'],
    'cores': count_usable_cores(),
    'jax': metadata.version('jax'),
  }


def _list_steps(
  networks: Sequence[Network], options: Options, platform: str, rows: Rows
) -> Iterator[tuple[Network, str, dict[str, Any]]]:
  """Measures what is missing; yields network, kind of step and its values."""
  for network in networks:
    missing = [
      kind
      for kind in _kinds(options)
      if rows.value(network.name, f'{kind}_images_per_sec') is None
    ]
    if not missing:
      continue
    case = BenchmarkCase(
      network.architecture,
      network.fields,
      NUM_CLASSES,
      options.image_size or network.image_size,
      rows.settings['batch_size'],
      options.dtype,
    )
    # Unrolled, a network of many blocks takes minutes to compile for a GPU.
    scan = platform != 'cpu'
    for kind, found in measure.measure(case, missing, scan=scan):
      yield (
        network,
        kind,
        found
        if 'failed' in found
        else {f'{kind}_{key}': value for key, value in found.items()},
      )
  if options.test is None:
    return
  for network in networks:
    source, size = options.test.weights_of(network)
    if source is None:
      continue
    asked = {'measured_weights': source, 'images': options.test.images()}
    if any(rows.value(network.name, key) != asked[key] for key in asked):
      rows.drop(network.name, _MEASURED)  # of other weights or images
      yield network, 'top-1', options.test.evaluate(network, source, size)


def count(network: Network, image_size: ImageSize) -> dict[str, Any]:
  """Returns the values of a row that are counted.

  Raises:
    UserError: the network does not take images of this size.
  """
  model = network.create(image_size)
  # Raises where images do not fit.
  network.table.variable_shapes(model, image_size)
  macs = flops.count_forward(model, image_size)
  return {
    'architecture': network.architecture,
    'timm_name': network.timm_name or '',
    'image_size': image_size,
    'parameters': flops.count_parameters(model, image_size),
    'macs': macs.total,
    'macs_without_depthwise': macs.matrix,
    'activations': macs.outputs,
  }


def find_published(network: Network) -> dict[str, Any]:
  """Returns the values of a row that are known of the released weights."""
  found = [
    {'weights': weights.tag, 'size': best.image_size, 'top1': best.top1}
    for weights in network.released
    if (best := weights.best) is not None
  ]
  if not found:
    return {}
  usual = {f'published_{key}': value for key, value in found[0].items()}
  return usual | {'released': found}


def write(rows: Rows, directory: epath.Path | None) -> None:
  """Writes tables and picture of the rows so far."""
  if directory is None:
    return
  files.write(directory / CSV, report.to_csv(rows))
  files.write(directory / MARKDOWN, report.to_markdown(rows))
  figure = picture.plot(rows)
  if figure:
    files.write(directory / PICTURE, plots.to_png(figure))
