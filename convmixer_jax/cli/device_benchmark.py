r"""Checks and measures the project on an accelerator.

  python -m convmixer_jax benchmark device --output=DIR \
    --cifar10=cifar10_jpeg.tar.xz

Works on any device that JAX finds, without access to a network.
`benchmarks.device.run` lists the files in DIR. `--quick` runs all stages in
three minutes on two CPU cores. For a machine that lacks packages, run with
`--wheels` on one that has them:

  python -m convmixer_jax benchmark device --wheels=wheels \
    --installed=FILE --python_version=3.12
"""

import contextlib
import math
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from convmixer_jax.benchmarks.device.settings import FULL, QUICK, STAGES
from convmixer_jax.cli import command, output
from convmixer_jax.cli.benchmark_flags import OUTPUT, TIMM_PYTHON
from convmixer_jax.cli.data_flags import DATA_DIR
from convmixer_jax.errors import INTERRUPTED, UserError
from convmixer_jax.files import require_local

_QUICK = flags.DEFINE_bool(
  'quick', False, 'measure tiny networks only, as a test of all stages'
)
_ONLY = flags.DEFINE_list('only', [], f'stages to run: {", ".join(STAGES)}')
_SKIP = flags.DEFINE_list('skip', [], 'stages to leave out')
_BUDGET = flags.DEFINE_float(
  'budget_seconds', 480.0, 'seconds for all stages', lower_bound=1.0
)
_CIFAR10 = flags.DEFINE_string(
  'cifar10', None, 'a tar of the images of CIFAR-10 as split/label/name.jpg'
)
_WHEELS = flags.DEFINE_string(
  'wheels',
  None,
  'do not measure; download the wheels that another machine lacks into this '
  'directory, which must be new or empty',
)
_INSTALLED = flags.DEFINE_string(
  'installed',
  None,
  'a file with the packages of that machine, one a line, with or without '
  'version, as `pip list --format=freeze` prints them',
)
_PYTHON_VERSION = flags.DEFINE_string(
  'python_version', '3.12', 'version of Python on that machine'
)
_SHOWN_FAULTS = 3


def main(argv: Sequence[str]) -> None:
  """Runs the stages; status 1 if a part of this project is wrong or failed."""
  command.refuse_arguments(argv)
  from convmixer_jax.benchmarks.device import run, wheels

  output.keep_going()  # a long measurement survives its terminal
  if _WHEELS.value is not None:
    print(
      wheels.collect(
        pathlib.Path(_WHEELS.value), _INSTALLED.value, _PYTHON_VERSION.value
      )
    )
    return
  if not OUTPUT.value:
    raise UserError('give a directory for the results: --output=DIR')
  if not math.isfinite(_BUDGET.value):
    raise UserError(
      f'--budget_seconds={_BUDGET.value} is not a number of seconds; give one, '
      'such as 480'
    )
  require_local(OUTPUT.value, '--output')
  stages = run.choose_stages(_ONLY.value, _SKIP.value)
  directory = pathlib.Path(OUTPUT.value)
  try:
    faults = run.run(
      QUICK if _QUICK.value else FULL,
      directory,
      stages=stages,
      budget_seconds=_BUDGET.value,
      torch_python=TIMM_PYTHON.value or sys.executable,
      cifar10=_CIFAR10.value,
      data_dir=DATA_DIR.value,
    )
  except run.Terminated as error:
    sys.exit(error.status)
  except KeyboardInterrupt:
    sys.exit(INTERRUPTED)
  results = directory / 'results.md'
  if results.exists():
    with contextlib.suppress(OSError):  # who reads it may be gone
      print(results.read_text(), flush=True)
  if faults:
    shown = '; '.join(faults[:_SHOWN_FAULTS])
    raise UserError(
      f'{len(faults)} wrong or failed, see {results}; the first: {shown}'
    )
