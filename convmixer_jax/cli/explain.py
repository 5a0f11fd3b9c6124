r"""Draws where in pictures a network sees a class: class activation maps.

  python -m convmixer_jax explain IMAGE_OR_FOLDER ... --source=SOURCE \
    --output=DIR [--class=NAME|NUMBER] [--layer=LAYERS] [--method=METHOD] \
    [--npz]

The directory gets a PNG for each picture, with the picture and, beside it, the
map of each layer over it, and explanations.json with classes, probabilities and
what part of a picture the maps cover. Bright is what speaks for the class,
relative to the brightest place. `--class`, which may be given several times, is
the class to explain, by default the predicted one.

LAYERS are names or numbers with commas between them, or 'all': stem (0),
block1 (1), block2, ..., last (-1). METHOD is cam, for the last layer of a
network whose head reads the mean of its grid: then the mean of the map, and the
bias of the class, are the logit; or gradcam, for any layer. Folders are
searched as by `convmixer predict`. A file that cannot be read is reported, the
others are still explained, and the exit status is 1.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from convmixer_jax import files
from convmixer_jax.cli import output as output_lib
from convmixer_jax.cli import (
  output_files,
  output_flag,
  picture_arguments,
  picture_names,
  source_flags,
)
from convmixer_jax.cli.exif_flag import EXIF_ROTATE
from convmixer_jax.cli.output_flag import OUTPUT
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  from convmixer_jax.analysis.explanation import Explanation

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
flags.adopt_module_key_flags(output_flag)
_CLASSES = flags.DEFINE_multi_string(
  'class',
  None,
  'class to explain, by name or number, of each picture; default: the '
  'predicted one',
)
_LAYERS = flags.DEFINE_list(
  'layer',
  None,
  "layers to draw, by name or number, such as stem,block2,last, or 'all'; "
  'default: the last one that the class depends on',
)
_METHOD = flags.DEFINE_enum(
  'method',
  'auto',
  ['auto', 'cam', 'gradcam'],
  'method; auto: CAM for the last layer where it is exact, else Grad-CAM',
)
_NPZ = flags.DEFINE_bool(
  'npz',
  False,
  'also write the maps of each picture, a .npz with a float32 array [classes, '
  'rows, columns] for each layer',
)
_SUMMARY = 'explanations.json'


def main(argv: Sequence[str]) -> None:
  """Explains the images that the command line names; writes the files."""
  picture_arguments.require(argv)
  if not OUTPUT.value:
    raise UserError('--output is missing; give a directory to write files to')
  network = source_flags.load_source()

  from convmixer_jax.data.image_files import display_name
  from convmixer_jax.pretrained import explanations
  from convmixer_jax.pretrained.images import decode, find_images

  targets: list[str | None] = list(_CLASSES.value or []) or [None]
  layers = None if _LAYERS.value is None else _read_layers(_LAYERS.value)
  for target in targets:
    explanations.find_class(network, target)
  explanations.choose_layers(network, layers)
  network.eval_config(1, source_flags.SIZE.value)
  paths, passed_over = find_images(argv[1:])
  picture_names.check_not_inside(OUTPUT.value, paths)
  names = picture_names.choose(paths)
  written: list[str] = []
  entries: list[dict[str, Any]] = []
  broken = 0
  output_lib.keep_going()  # the files are the result
  with output_files.make_directory(OUTPUT.value) as output:
    print(network.loaded_line, flush=True)
    picture_arguments.report_passed_over(passed_over)
    for path, name in zip(paths, names, strict=True):
      try:
        pixels = decode(
          path,
          EXIF_ROTATE.value,
          channels=network.channels,
          dtype=network.image_dtype,
        )
      except UserError as error:
        broken += 1
        picture_arguments.report_error(error)
        continue
      where = display_name(path)
      found = list(
        explanations.explain_classes(
          network,
          pixels,
          targets,
          layers,
          _METHOD.value,
          source_flags.SIZE.value,
          where,
        )
      )
      content = {name: _draw(found)}
      if _NPZ.value:
        content[name.removesuffix('.png') + '.npz'] = _arrays(found)
      with output_files.one_line_errors(output):
        for file, data in content.items():
          files.write(output / file, data)
          written.append(file)
      entries.append(_describe(path, name, found))
      classes = ', '.join(
        f'{item.name} {100 * item.probability:.1f} %' for item in found
      )
      print(f'{where}: {classes} -> {name}', flush=True)
    if entries:
      output_files.write_json(output / _SUMMARY, entries)
      written.append(_SUMMARY)
      print(output_files.describe_written(output, written))
  picture_arguments.require_readable(broken, len(paths))


def _read_layers(names: list[str]) -> str | list[str]:
  names = [name.strip() for name in names]
  return 'all' if names == ['all'] else names


def _draw(found: 'list[Explanation]') -> bytes:
  from convmixer_jax.analysis import plots

  return plots.to_png(plots.class_activation(found))


def _arrays(found: 'list[Explanation]') -> bytes:
  """Returns a file of NumPy with the maps by layer, `[classes, h, w]` each."""
  import numpy as np

  file = io.BytesIO()
  maps: dict[str, Any] = {
    layer: np.stack([item.maps[layer] for item in found])
    for layer in found[0].maps
  }
  np.savez(file, **maps)
  return file.getvalue()


def _describe(
  path: str, name: str, found: 'list[Explanation]'
) -> dict[str, Any]:
  """Returns what explanations.json has of a picture."""
  from convmixer_jax.data.image_files import as_utf8

  top, left, height, width = found[0].box
  return {
    'file': as_utf8(path),
    'picture': name,
    'covered': {'top': top, 'left': left, 'height': height, 'width': width},
    'layers': [
      {'name': layer, 'method': method, 'grid': found[0].maps[layer].shape}
      for layer, method in found[0].methods.items()
    ],
    'classes': [
      {
        'class': item.target,
        'name': item.name,
        'logit': item.logit,
        'probability': item.probability,
      }
      for item in found
    ],
  }
