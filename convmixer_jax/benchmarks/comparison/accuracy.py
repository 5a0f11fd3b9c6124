"""Measures the accuracy of weights by `convmixer evaluate`."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from convmixer_jax.benchmarks.comparison.networks import NETWORKS, Network
from convmixer_jax.config import ImageSize, height_width
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained.source import RunSource, parse_source

RELEASED = 'released'


@dataclasses.dataclass(frozen=True)
class Test:
  """Weights, and the images that they are evaluated on.

  Attributes:
    sources: by name of the network, what `evaluate --source` takes.
    released: whether networks without a source have their released weights
      evaluated, from the Hugging Face Hub.
    dataset: name or folder, as `evaluate --dataset` takes it.
    split: of it; None for the held-out one.
    data_dir: of TFDS; None for its own.
  """

  sources: Mapping[str, str]
  released: bool
  dataset: str
  split: str | None = None
  data_dir: str | None = None

  def weights_of(self, network: Network) -> tuple[str | None, ImageSize | None]:
    """Returns the source of weights to evaluate, and the size of images.

    None for a network without weights, and for the size that they have.
    Released weights are evaluated at the size of their published accuracy.
    """
    source, size = self.sources.get(network.name), None
    if source is None and self.released and network.released:
      usual = network.released[0]
      source, size = usual.source, usual.test and usual.test.image_size
    return source or None, size

  def images(self) -> list[str | None]:
    """Returns what was asked for: data set, split and directory."""
    return [self.dataset, self.split, self.data_dir]

  def evaluate(
    self, network: Network, source: str, size: ImageSize | None = None
  ) -> dict[str, Any]:
    """Evaluates a network's weights in a process of its own.

    Args:
      network: whose weights they are.
      source: see `weights_of`.
      size: see `weights_of`.

    Returns:
      `measured_top1` in per cent, `measured_weights`, `measured_on` and
      `images`, which were asked for; or why it `failed`.
    """
    with tempfile.TemporaryDirectory() as directory:
      done = subprocess.run(
        self.command(network, source, directory, size),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        check=False,
      )
      if done.returncode:
        lines = done.stderr.strip().splitlines() or ['without a message']
        return {'failed': lines[-1].removeprefix('error: ')}
      result = json.loads((pathlib.Path(directory) / 'result.json').read_text())
    return {
      'measured_top1': 100 * result['eval_accuracy'],
      'measured_weights': source,
      'measured_on': f'{result["dataset"]} {result["split"]}',
      'images': self.images(),
    }

  def command(
    self,
    network: Network,
    source: str,
    output: str,
    size: ImageSize | None = None,
  ) -> Sequence[str]:
    """Returns how to evaluate weights of a network, with files in `output`."""
    command = [
      *(sys.executable, '-m', 'convmixer_jax', 'evaluate'),
      f'--source={source}',
      f'--dataset={self.dataset}',
      f'--output={output}',
    ]
    is_run = isinstance(parse_source(source), RunSource)  # has its network
    if network.name in NETWORKS and not is_run:
      command.append(f'--model={network.name}')
    if size is not None:
      command.append(f'--size={",".join(map(str, height_width(size)))}')
    if self.split is not None:
      command.append(f'--split={self.split}')
    if self.data_dir is not None:
      command.append(f'--data_dir={self.data_dir}')
    return command


def parse_weights(
  weights: Sequence[str], networks: Sequence[Network]
) -> tuple[dict[str, str], bool]:
  """Returns `Test.sources` and `Test.released`.

  Args:
    weights: each 'released', or NAME=SOURCE.
    networks: that are compared.

  Raises:
    UserError: a part is neither, or names a network that is not compared, or
      weights that are not there.
  """
  names = [network.name for network in networks]
  sources = {}
  for part in weights:
    if part == RELEASED:
      continue
    name, is_pair, source = part.partition('=')
    if not is_pair or not source:
      raise UserError(
        f'--weights: {part!r} is neither {RELEASED} nor NAME=SOURCE, such as '
        f'{names[0]}=model.safetensors'
      )
    if name not in names:
      raise UserError(
        f'--weights: {name!r} is not compared; --models has {", ".join(names)}'
      )
    parse_source(source)
    sources[name] = source
  return sources, RELEASED in weights
