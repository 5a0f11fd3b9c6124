"""ConvMixer in JAX: `convmixer COMMAND [flags]`.

`convmixer` and `python -m convmixer_jax` are the same. `COMMAND --help` shows
the flags of a command, with examples. `python train.py` is `convmixer train`.
`convmixer --version` prints the version.
"""

import importlib
import sys
from collections.abc import Mapping

from convmixer_jax.cli import command, output, starting, usage
from convmixer_jax.cli.allocator import tune_allocator
from convmixer_jax.errors import INTERRUPTED
from convmixer_jax.versions import package_version

# name -> module, of which each has a `main(argv)`; or `COMMANDS` of its own.
COMMANDS = {
  'train': 'convmixer_jax.cli.train',
  'sweep': 'convmixer_jax.cli.sweep',
  'evaluate': 'convmixer_jax.cli.evaluate',
  'predict': 'convmixer_jax.cli.predict',
  'explain': 'convmixer_jax.cli.explain',
  'export': 'convmixer_jax.cli.export',
  'convert': 'convmixer_jax.cli.convert',
  'push': 'convmixer_jax.cli.push',
  'prepare': 'convmixer_jax.cli.prepare',
  'statistics': 'convmixer_jax.cli.statistics',
  'compare': 'convmixer_jax.cli.compare',
  'plan': 'convmixer_jax.cli.plan',
  'find_learning_rate': 'convmixer_jax.cli.find_learning_rate',
  'benchmark': 'convmixer_jax.cli.benchmark',
}
_HELP = ('--help', '-h', '-help', '--helpfull', '--helpshort', 'help')


def main() -> None:
  """Runs the command that the first arguments name; ends the process."""
  output.guard()
  try:
    if sys.argv[1:] == ['--version']:
      print(f'convmixer {package_version()}', flush=True)
      return
    _choose(COMMANDS, 'command', __doc__)
  except KeyboardInterrupt:  # before the command handles it
    print('interrupted', file=sys.stderr)
    sys.exit(INTERRUPTED)
  finally:
    output.finish()


def _choose(
  commands: Mapping[str, str], kind: str, text: str, above: str = ''
) -> None:
  """Runs what `sys.argv[1]` names, and removes the name.

  Args:
    commands: module by name.
    kind: of what is chosen from, in the singular.
    text: that explains it.
    above: the names chosen before.
  """
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name in _HELP:
    print(usage.overview(commands, text), flush=True)
    return
  if name not in commands:
    problem = f'there is no {kind} {name!r}' if name else f'no {kind} is given'
    command.exit_with(f'{problem}; there are {", ".join(commands)}, and --help')
  del sys.argv[1]
  command.expand_flagfiles()
  needs_help = any(argument in _HELP[:-1] for argument in sys.argv[1:])
  if not needs_help:
    tune_allocator()  # which starts the program again, so before slow imports
    if name == 'train':
      starting.announce()
    command.import_jax()
  module = importlib.import_module(commands[name])
  if hasattr(module, 'COMMANDS'):
    _choose(module.COMMANDS, name, module.__doc__ or '', f'{above}{name} ')
  elif needs_help:
    print(usage.of_command(module, above + name), flush=True)
  else:
    command.run(module.main)
