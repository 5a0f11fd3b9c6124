r"""Exports a trained network to files that other programs run.

  python -m convmixer_jax export --source=SOURCE --output=DIR \
    [--format=stablehlo,onnx] [--size=PIXELS|HEIGHT,WIDTH] [--probabilities]

The directory gets model.stablehlo, which JAX alone runs on CPU, TPU and GPU,
and, if asked for, model.onnx. Both take images of one size and of the dtype of
training, uint8 or another, any number at a time, and normalise them. model.json
beside them says what goes in and comes out, what the classes are, how accurate
the network is, and how to load the files.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from convmixer_jax.cli import output_files, output_flag, source_flags
from convmixer_jax.cli.output_flag import OUTPUT
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  from etils import epath

  from convmixer_jax.pretrained.trained_model import TrainedModel

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
flags.adopt_module_key_flags(output_flag)
flags.mark_flag_as_required('output')
_FORMAT = flags.DEFINE_list('format', ['stablehlo'], 'stablehlo, onnx or both')
_PROBABILITIES = flags.DEFINE_bool(
  'probabilities', False, 'output probabilities instead of logits'
)


def main(argv: Sequence[str]) -> None:
  """Writes the files and their card."""
  if len(argv) > 1:
    raise UserError(
      f'{argv[1]!r} is not a flag; --output=DIR names the directory'
    )

  from convmixer_jax import export

  known = {
    'stablehlo': (export.STABLEHLO, export.to_stablehlo),
    'onnx': (export.ONNX, export.to_onnx),
  }
  for name in _FORMAT.value or ['']:
    if name not in known:
      raise UserError(
        f'--format={name} is unknown; there are {", ".join(known)}'
      )
  network = source_flags.load_source()
  with output_files.make_directory(OUTPUT.value or '') as output:
    contents = _write(network, output, known)
    described = output_files.describe_sizes(output, contents)
  print(network.loaded_line)
  print(described)


def _write(
  network: 'TrainedModel',
  output: 'epath.Path',
  known: Mapping[str, tuple[Any, Callable[..., bytes]]],
) -> dict[str, bytes]:
  """Writes the files; returns their contents by name."""
  from convmixer_jax import export, files

  config = network.eval_config(batch_size=1, image_size=source_flags.SIZE.value)
  formats = [known[name][0] for name in _FORMAT.value]
  contents = {
    known[name][0].file: known[name][1](
      network.model,
      network.variables,
      config.dataset,
      probabilities=_PROBABILITIES.value,
      dtype=network.image_dtype,
    )
    for name in _FORMAT.value
  }
  card = export.model_card(
    network, config, formats, probabilities=_PROBABILITIES.value
  )
  contents['model.json'] = (json.dumps(card, indent=2) + '\n').encode()

  with output_files.one_line_errors(output):
    for name, content in contents.items():
      files.write(output / name, content)
  return contents
