"""Divides the time of a step among the kernels that a GPU ran for it.

    python scripts/profile_gpu_step.py --network=256/8 --output=profile.csv

The step is that of `convmixer benchmark device`, in bfloat16 and with random
images: of this project, or with `--framework=plain_flax` of Flax's own layers,
and with `--kind=forward` inference. It is timed without the profiler first.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402

from convmixer_jax.benchmarks import gpu_profile, jax_model_worker  # noqa: E402
from convmixer_jax.benchmarks.device.settings import FULL, QUICK  # noqa: E402

CASES = {
  name: case
  for settings in (QUICK, FULL)
  for cases in (settings.networks, settings.inference)
  for name, case in cases.items()
}
FRAMEWORKS = 'project', 'project_scan', 'plain_flax', 'plain_flax_scan'


def main(arguments=None):
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--network', default='256/8', choices=list(CASES), help='what to run'
  )
  parser.add_argument(
    '--framework', default='project', choices=FRAMEWORKS, help='of which'
  )
  parser.add_argument(
    '--kind', default='train', choices=('train', 'forward'), help='of step'
  )
  parser.add_argument('--steps', type=int, default=10, help='that are timed')
  parser.add_argument('--shown', type=int, default=30, help='kernels to print')
  parser.add_argument('--output', help='CSV file to write: all kernels')
  options = parser.parse_args(arguments)
  case = CASES[options.network]
  start = time.perf_counter()
  kinds, _ = jax_model_worker.create(
    options.framework, dataclasses.asdict(case)
  )
  run = kinds[options.kind]
  run(2)
  compiled = time.perf_counter()
  run(options.steps)  # warms up
  begin = time.perf_counter()
  run(options.steps)
  seconds = (time.perf_counter() - begin) / options.steps
  kernels = gpu_profile.profile(run, options.steps)
  print(
    f'{options.network}, {options.framework}, {options.kind}, on '
    f'{jax.devices()[0].device_kind}: {1e3 * seconds:.3f} ms, '
    f'{case.batch_size / seconds:,.1f} images/s; first two steps '
    f'{compiled - start:.1f} s, with compilation'
  )
  total = sum(kernel.microseconds for kernel in kernels)
  print(f'{len(kernels)} kernels, {total / 1e3:.3f} ms')
  for name, launches, microseconds in kernels[: options.shown]:
    print(f'{microseconds:10.1f} us  x{launches:5.1f}  {name}')
  if options.output:
    text = gpu_profile.to_csv(kernels)
    pathlib.Path(options.output).write_text(text)


if __name__ == '__main__':
  main()
