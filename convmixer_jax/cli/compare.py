r"""Compares runs, or networks: size, speed, accuracy; runs with intervals.

  convmixer compare runs/widths --output=comparison
  convmixer compare runs/a runs/b runs/c --by=model.width --reference=b

Of runs, or directories of runs such as those of `sweep`, each row is a group
that has the same values of the keys in --by; without it, of all keys but the
seed. It has the last --metric with its 95 % interval over the seeds, and the
difference to the row --reference. The output directory gets compare.csv,
compare.md, compare.png and compare.html, a page to send to others.

  python -m convmixer_jax compare --models=all --output=comparison
  python -m convmixer_jax compare --models=paper --nospeed
  python -m convmixer_jax compare --models=768_32,deit_b --batch_size=8 \
    --weights=768_32=model.safetensors --dataset=imagenet2012

--models takes names with commas: variants such as 768_32 and deit_b, also as
vit:deit_b; a network for all of its variants, such as resmlp; names of timm;
`paper` for the five of the ConvMixer paper; `all`; and MODULE:ATTRIBUTE for a
network of your own. The paper's are always first, with its own figures.

Counted are parameters, activations, and multiplications with their additions
(MACs) with and without depthwise convolutions. Inference and training step are
timed on the accelerator, else on the CPU; memory is what the compiled step
needs, by its compiler. Each network has a process of its own, so that one that
does not fit into memory does not stop the others.

The output directory gets compare.csv, compare.md, compare.png (accuracy against
images/s; areas are parameters) and compare.json. They are written after each
measurement: the same command continues after an interruption. `--weights` has
the accuracy measured, of released weights from the Hugging Face Hub or of
NAME=SOURCE, a SOURCE of `evaluate`; --dataset and --split are those of
`evaluate`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax.cli import data_flags, output_files, output_flag
from convmixer_jax.cli import output as output_lib
from convmixer_jax.cli.output_flag import OUTPUT
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  from convmixer_jax.benchmarks.comparison.networks import Network
  from convmixer_jax.benchmarks.comparison.run import Options

_BY = flags.DEFINE_list(
  'by', [], 'for runs: keys of the config; runs with equal values share a row'
)
_REFERENCE = flags.DEFINE_string(
  'reference', None, 'for runs: row to compare with; default: the first'
)
_METRIC = flags.DEFINE_string(
  'metric', None, 'for runs: metric to compare; default: the accuracy'
)
_MODELS = flags.DEFINE_list(
  'models', None, 'networks to compare instead of runs: names with commas'
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size',
  None,
  'images of a step; default: 4 on a CPU, 64 on an accelerator',
  lower_bound=1,
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size',
  None,
  "side of the images in pixels; default: each network's own",
  lower_bound=1,
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'compute dtype'
)
_SPEED = flags.DEFINE_bool('speed', True, 'measure speed and memory')
_TRAINING = flags.DEFINE_bool('training', True, 'measure the training step too')
_WEIGHTS = flags.DEFINE_list(
  'weights',
  [],
  'weights whose accuracy to measure: released, or NAME=SOURCE with commas',
)
_DATASET = flags.DEFINE_string(
  'dataset', 'imagenet2012', 'images to measure accuracy on, for --weights'
)
_SPLIT = flags.DEFINE_string(
  'split', None, "split of it, in TFDS's syntax; default: the held-out one"
)
flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(output_flag)


def main(argv: Sequence[str]) -> None:
  """Compares, prints the tables, and writes the files if asked to."""
  if len(argv) > 1:
    _compare_runs(argv[1:])
    return
  if _MODELS.value is None:
    raise UserError(
      '--models is missing; give the networks to compare: --models=all, '
      '--models=paper or names with commas; or the directories of runs'
    )
  _refuse([_BY, _REFERENCE, _METRIC], 'for runs', 'name their directories')
  import jax

  # Only the processes that measure use an accelerator: this one would take its
  # memory from them.
  jax.config.update('jax_platforms', 'cpu')
  from convmixer_jax.benchmarks.comparison.networks import choose_networks

  networks = choose_networks(_MODELS.value)
  options = _choose_options(networks)
  output_lib.keep_going()  # a long measurement survives its terminal
  if OUTPUT.value is None:
    _compare(networks, options, None)
    return
  with output_files.make_directory(OUTPUT.value) as directory:
    _compare(networks, options, directory)


def _compare_runs(paths: Sequence[str]) -> None:
  """Compares runs instead of networks."""
  of_networks = [
    *(_MODELS, _BATCH_SIZE, _IMAGE_SIZE, _DTYPE, _SPEED, _TRAINING),
    *(_WEIGHTS, _DATASET, _SPLIT),
  ]
  _refuse(of_networks, 'for networks', f'leave out {paths[0]!r}')
  from convmixer_jax.cli.run_comparison import compare_runs

  compare_runs(paths, _BY.value, _REFERENCE.value, _METRIC.value, OUTPUT.value)


def _refuse(holders, what, cure):
  """Raises UserError if a flag of the other form is given."""
  for holder in holders:
    if flags.FLAGS[holder.name].present:
      raise UserError(
        f'--{holder.name} is {what}; {cure}, or leave out --{holder.name}'
      )


def _choose_options(networks: 'Sequence[Network]') -> 'Options':
  """Returns what the flags ask for."""
  from convmixer_jax.benchmarks.comparison.accuracy import Test, parse_weights
  from convmixer_jax.benchmarks.comparison.run import Options

  sources, released = parse_weights(_WEIGHTS.value, networks)
  test = None
  if sources or released:
    test = Test(
      sources,
      released,
      _DATASET.value,
      _SPLIT.value,
      data_flags.DATA_DIR.value,
    )
  return Options(
    batch_size=_BATCH_SIZE.value,
    image_size=_IMAGE_SIZE.value,
    dtype=_DTYPE.value,
    speed=_SPEED.value,
    training=_TRAINING.value,
    test=test,
  )


def _compare(networks, options, directory):
  """Compares, and prints the tables."""
  import sys

  from convmixer_jax.benchmarks.comparison import report, run

  def say(line):
    print(line, file=sys.stderr, flush=True)

  if directory is None:
    rows = run.run(networks, options, say=say)
    print(report.to_markdown(rows))
  else:
    with output_files.one_line_errors(directory):
      rows = run.run(networks, options, directory, say)
    print(report.to_markdown(rows))
    written = [name for name in run.FILES if (directory / name).exists()]
    print(output_files.describe_written(directory, written))
  failed = run.list_failed(networks, options, rows)
  if failed:
    raise UserError(
      f'not measured: {", ".join(failed)}; the table says why, and the same '
      'command tries again'
    )
