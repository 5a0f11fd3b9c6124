"""The text of `--help`: a command's own flags with examples, no others."""

import ast
import importlib.util
import pathlib
import textwrap
from collections.abc import Mapping
from types import ModuleType

from absl import flags

_WIDTH = 80
_SOURCE = """SOURCE is one of
  RUN                         run directory: its best checkpoint, or its newest
                              if none was evaluated
  RUN@STEP                    one of its checkpoints; also RUN@best, RUN@newest
                              and RUN/checkpoints/STEP
  FILE                        weights: .safetensors, or PyTorch's .pth.tar,
                              .pth, .pt or .bin
  DIRECTORY                   weights in it: model.safetensors
  hf://OWNER/NAME[@REVISION]  repository of the Hugging Face Hub"""


def overview(commands: Mapping[str, str], text: str) -> str:
  """Returns the text, and each command with the first line of its own.

  Args:
    commands: module by name. They are read, not imported: that takes seconds.
    text: to begin with.
  """
  width = max(map(len, commands))
  lines = [text.strip(), '']
  for name, path in commands.items():
    spec = importlib.util.find_spec(path)
    assert spec and spec.origin, path
    source = ast.parse(pathlib.Path(spec.origin).read_text())
    first_line, *_ = (ast.get_docstring(source) or '').splitlines()
    lines.append(f'  {name:{width}}  {first_line}')
  return '\n'.join(lines)


def of_command(module: ModuleType, name: str) -> str:
  """Returns a command's text and its flags, without those of libraries.

  A command that has `--model` also gets the text on SOURCE.

  Args:
    module: of the command. Its flags are those that it defines, imports or
      adopts.
    name: of the command, as in 'benchmark model'.
  """
  key = flags.FLAGS.get_key_flags_for_module(module.__name__)
  own = {flag.name: flag for flag in key}
  for value in vars(module).values():
    if isinstance(value, flags.FlagHolder):
      own[value.name] = flags.FLAGS[value.name]
  documentation = module.__doc__ or ''
  lines = [f'convmixer {name}: {documentation.strip()}', '']
  if 'model' in own:  # completes a SOURCE
    lines += [_SOURCE, '']
  lines.append('Flags:')
  own['debug'] = flags.FLAGS['debug']
  for flag in sorted(own.values(), key=lambda flag: flag.name):
    lines += _describe(flag)
  return '\n'.join(lines)


def _describe(flag: flags.Flag) -> list[str]:
  text = ' '.join((flag.help or '').split())  # absl's own have line breaks
  if _is_required(flag):
    text += ' (required)'
  if flag.default not in (None, False, []):
    default = (flag.default_as_str or '').strip("'")
    text += f' (default: {default})'
  no = '[no]' if flag.boolean else ''
  return [
    f'  --{no}{flag.name}',
    *textwrap.wrap(
      text, _WIDTH, initial_indent=' ' * 6, subsequent_indent=' ' * 6
    ),
  ]


def _is_required(flag: flags.Flag) -> bool:
  """Returns whether None, which `mark_flag_as_required` refuses, is refused."""
  return flag.default is None and not all(
    validator.checker(None) for validator in flag.validators
  )
