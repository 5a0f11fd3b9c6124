"""Measures speed: `python -m convmixer_jax.tools.benchmark NAME [flags]`.

NAME is one of those that `--help` lists; `NAME --help` lists its flags.
"""

import importlib
import sys
from types import ModuleType

from absl import flags

from convmixer_jax.tools import benchmark_flags, cli, data_flags, output

BENCHMARKS = {
  'device': 'convmixer_jax.tools.device_benchmark',
  'input': 'convmixer_jax.tools.input_benchmark',
  'model': 'convmixer_jax.tools.model_benchmark',
}
_HELP = ('--help', '-h', '-help', '--helpfull')


def main() -> None:
  """Runs the benchmark that the first argument names, with its own flags."""
  output.guard()
  name, *others = sys.argv[1:] or ['']
  if name in _HELP:
    print(_overview(), flush=True)
    return
  if name not in BENCHMARKS:
    cli.exit_with(
      f'there is no benchmark {name!r}; there are {", ".join(BENCHMARKS)}, and '
      '--help'
    )
  module = importlib.import_module(BENCHMARKS[name])
  if any(argument in _HELP for argument in others):
    print(_usage(module), flush=True)
    return
  del sys.argv[1]
  output.keep_going()  # hours must not be lost with a terminal
  cli.run(module.main)


def _overview() -> str:
  """Returns the usage, and each benchmark with the first line of its text."""
  lines = [__doc__.strip(), '']
  for name, path in BENCHMARKS.items():
    text = importlib.import_module(path).__doc__
    lines.append(f'  {name:7} {text.splitlines()[0]}')
  return '\n'.join(lines)


def _usage(module: ModuleType) -> str:
  """Returns a benchmark's text and its flags, without those of others."""
  shared = {
    value.name
    for value in vars(module).values()
    if isinstance(value, flags.FlagHolder)
  }
  of_module = flags.FLAGS.flags_by_module_dict()
  own = of_module.get(module.__name__, [])
  for owner in (benchmark_flags, data_flags):
    own += [flag for flag in of_module[owner.__name__] if flag.name in shared]
  lines = [module.__doc__.strip(), '', 'Flags:']
  for flag in sorted(own, key=lambda flag: flag.name):
    lines.append(f'  --{flag.name}  {flag.help}')
    if flag.default not in (None, False, []):
      default = flag.default_as_str.strip("'")
      lines[-1] += f' (default: {default})'
  return '\n'.join(lines)


if __name__ == '__main__':
  main()
