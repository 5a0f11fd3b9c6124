r"""Compares the speed of networks with Flax and PyTorch (`benchmarks.model`).

  python -m convmixer_jax benchmark model \
    --timm_python=timm-env/bin/python
"""

import sys
from collections.abc import Sequence

from absl import flags

from convmixer_jax.benchmarks.benchmark_cases import CASES
from convmixer_jax.cli import command, output, output_files
from convmixer_jax.cli.benchmark_flags import OUTPUT, ROUNDS, TIMM_PYTHON

_SHAPES = flags.DEFINE_list('shapes', list(CASES), 'networks to measure')
_DEPTH = flags.DEFINE_integer(
  'imagenet_depth',
  4,
  'blocks of the networks for ImageNet, at most; every block is the same',
  lower_bound=1,
)
_PLAIN_FLAX = flags.DEFINE_bool(
  'plain_flax',
  True,
  "also measure ConvMixers of Flax's own layers, which takes most of the time",
)


def main(argv: Sequence[str]) -> None:
  """Measures, prints the table, and writes the figures if asked to."""
  command.refuse_arguments(argv)
  from convmixer_jax.benchmarks import model, model_report

  output.keep_going()  # a long measurement survives its terminal
  cases = model.choose_cases(_SHAPES.value, _DEPTH.value)
  path = output_files.check_file(OUTPUT.value)
  rounds = ROUNDS.value or model.ROUNDS
  for result in model.run(
    cases,
    timm_python=TIMM_PYTHON.value,
    rounds=rounds,
    plain_flax=_PLAIN_FLAX.value,
  ):
    print(f'{len(result["cases"])} of {len(cases)} networks', file=sys.stderr)
    if path:  # after each, so that an interruption keeps the others
      output_files.write_json(path, result)
  print(model_report.table(result))
