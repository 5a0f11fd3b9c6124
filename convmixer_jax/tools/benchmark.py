"""Measures speed: `python -m convmixer_jax.tools.benchmark NAME [flags]`.

NAME is `device`, `input` or `model`; `--help` after it lists its flags.
"""

import importlib
import sys

from convmixer_jax.tools import cli

BENCHMARKS = {
  'device': 'convmixer_jax.tools.device_benchmark',
  'input': 'convmixer_jax.tools.input_benchmark',
  'model': 'convmixer_jax.tools.model_benchmark',
}


def main() -> None:
  """Runs the benchmark that the first argument names, with its own flags."""
  name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
  if name not in BENCHMARKS:
    known = ', '.join(BENCHMARKS)
    cli.exit_with(f'there is no benchmark {name!r}; there are {known}')
  cli.run(importlib.import_module(BENCHMARKS[name]).main)


if __name__ == '__main__':
  main()
