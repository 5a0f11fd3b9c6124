r"""Measures the network beside plain Flax and PyTorch; see `benchmarks.model`.

  python -m convmixer_jax benchmark model \
    --timm_python=timm-env/bin/python
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from convmixer_jax.benchmarks import model
from convmixer_jax.benchmarks.model_shapes import SHAPES
from convmixer_jax.cli import command, output
from convmixer_jax.cli.benchmark_flags import OUTPUT, ROUNDS, TIMM_PYTHON

_SHAPES = flags.DEFINE_list('shapes', list(SHAPES), 'what to measure')
_DEPTH = flags.DEFINE_integer(
  'imagenet_depth',
  4,
  'blocks of the networks for ImageNet, at most; every block is the same',
  lower_bound=1,
)


def main(argv: Sequence[str]) -> None:
  """Measures, prints the table, and writes the figures if asked to."""
  command.refuse_arguments(argv)
  output.keep_going()  # hours must not be lost with a terminal
  shapes = model.choose_shapes(_SHAPES.value, _DEPTH.value)
  rounds = ROUNDS.value or model.ROUNDS
  for result in model.run(shapes, timm_python=TIMM_PYTHON.value, rounds=rounds):
    print(f'{len(result["shapes"])} of {len(shapes)} shapes', file=sys.stderr)
    if OUTPUT.value:  # after each, lest an interruption cost the others
      text = json.dumps(result, indent=2) + '\n'
      pathlib.Path(OUTPUT.value).write_text(text)
  print(model.table(result))
