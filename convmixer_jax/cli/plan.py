r"""Estimates what a run needs: memory, time, communication.

  python -m convmixer_jax plan --config=configs/imagenet.py:768_32 \
    --topology=v5e:4x4

Compiles the training step for TPUs or GPUs that are not present, on any Linux
machine. --config.model.scan=True compiles in one minute instead of several;
--nosearch does not search for the largest batch that fits.
"""

import os
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from convmixer_jax.cli import command, output_files
from convmixer_jax.cli.config_flag import CONFIG
from convmixer_jax.planning.chips import ENVIRONMENT, parse_topology

_TOPOLOGY = flags.DEFINE_string(
  'topology',
  None,
  "devices, such as 'v5e:4x4', 'v5p:2x2x1' or 'h100:HOSTSxGPUS'",
  required=True,
)
_SEARCH = flags.DEFINE_bool(
  'search', True, 'search for the largest batch that fits'
)
_NUM_EXAMPLES = flags.DEFINE_integer(
  'num_examples',
  None,
  'number of training images; default: that of the data set',
  lower_bound=1,
)
_NUM_CLASSES = flags.DEFINE_integer(
  'num_classes',
  None,
  'number of classes; default: that of the data set',
  lower_bound=1,
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'a JSON file to write the figures to'
)
flags.mark_flag_as_required('config')


def main(argv: Sequence[str]) -> None:
  """Makes the plan, prints it, and writes the figures if asked to."""
  command.refuse_arguments(argv)
  import jax

  from convmixer_jax.planning.data import data_size
  from convmixer_jax.training import from_data
  from convmixer_jax.training.validate import validate

  config = from_data.complete(CONFIG.value)
  validate(config)
  chip, layout = parse_topology(_TOPOLOGY.value)
  output = output_files.check_file(_OUTPUT.value)
  num_examples, num_classes = data_size(
    config.dataset, _NUM_EXAMPLES.value, _NUM_CLASSES.value
  )
  os.environ |= ENVIRONMENT  # before JAX starts
  # JAX is imported already, and has read this one. Plugins check the libraries
  # of a platform that may be used.
  jax.config.update('jax_platforms', ENVIRONMENT['JAX_PLATFORMS'])
  from convmixer_jax.planning import build, report, topologies

  name = config_flags.get_config_filename(flags.FLAGS['config'])
  plan = build.make_plan(
    config,
    chip,
    topologies.describe_devices(_TOPOLOGY.value, chip, layout),
    num_examples=num_examples,
    num_classes=num_classes,
    search=_SEARCH.value,
  )
  plan = {'config': name, 'topology': _TOPOLOGY.value} | plan
  if output:
    output_files.write_json(output, plan)
  print(report.table(plan))
