r"""Classifies image files: prints the five most probable classes of each.

  python -m convmixer_jax predict IMAGE_OR_FOLDER ... --source=SOURCE \
    [--format=csv|jsonl] [--size=PIXELS|HEIGHT,WIDTH] [--noexif_rotate]

Folders, and links to folders, are searched at any depth for files that Pillow
decodes, by extension or else by content. Hidden files, such as `._photo.jpg`,
are left out; how many files were passed over is printed on stderr. A file that
cannot be read is reported, the others are still classified, and the exit status
is 1. Photographs are turned upright as their EXIF data says, unless
--noexif_rotate is given.

`--format=csv` prints a row for each class: file, rank, class (its number),
name, probability. `--format=jsonl` prints a line of JSON for each file, with
"file" and either "predictions", a list of {"class", "name", "probability"}, or
"error". Which network was loaded is then printed on stderr.

Of a network with several labels an image, all classes are printed whose
probability reaches their threshold; "(no class)" if none does, in CSV a row
with the file alone, in JSON an empty list.
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax.cli import picture_arguments, source_flags
from convmixer_jax.cli.batch_size_flag import BATCH_SIZE
from convmixer_jax.cli.exif_flag import EXIF_ROTATE

if TYPE_CHECKING:
  from convmixer_jax.pretrained.predictions import Prediction

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
_FORMAT = flags.DEFINE_enum(
  'format', 'table', ['table', 'csv', 'jsonl'], 'format of the output'
)


def main(argv: Sequence[str]) -> None:
  """Prints the classes of the images that the command line names."""
  picture_arguments.require(argv)
  network = source_flags.load_source()

  from convmixer_jax.pretrained.images import find_images
  from convmixer_jax.pretrained.predictions import predict_images

  paths, passed_over = find_images(argv[1:])
  is_table = _FORMAT.value == 'table'
  print(
    network.loaded_line,
    file=sys.stdout if is_table else sys.stderr,
    flush=True,
  )
  picture_arguments.report_passed_over(passed_over)
  write = _WRITERS[_FORMAT.value]()
  broken = 0
  for prediction in predict_images(
    network,
    paths,
    BATCH_SIZE.value,
    source_flags.SIZE.value,
    EXIF_ROTATE.value,
  ):
    if prediction.error is not None:
      broken += 1
      picture_arguments.report_error(prediction.error)
    write(prediction)
    sys.stdout.flush()
  picture_arguments.require_readable(broken, len(paths))


def _table_writer() -> Callable[['Prediction'], None]:
  from convmixer_jax.data.image_files import display_name

  def write(prediction):
    if prediction.error is not None:
      return
    print(display_name(prediction.path or ''))
    if not prediction.best:
      print('  (no class)')
    for name, probability in zip(
      prediction.names, prediction.probabilities, strict=True
    ):
      print(f'  {100 * probability:5.1f} %  {name}')

  return write


def _csv_writer() -> Callable[['Prediction'], None]:
  from convmixer_jax.data.image_files import as_utf8

  rows = csv.writer(sys.stdout, lineterminator='\n')
  rows.writerow(['file', 'rank', 'class', 'name', 'probability'])

  def write(prediction):
    file = as_utf8(prediction.path or '')
    if prediction.error is None and not prediction.best:
      rows.writerow([file, '', '', '', ''])
    columns = prediction.best, prediction.names, prediction.probabilities
    for rank, (number, name, probability) in enumerate(
      zip(*columns, strict=True), start=1
    ):
      rows.writerow([file, rank, number, name, f'{probability:.6f}'])

  return write


def _jsonl_writer() -> Callable[['Prediction'], None]:
  # Other characters than ASCII are escaped: the terminal need not have them.
  return lambda prediction: print(json.dumps(prediction.to_json()))


_WRITERS = {
  'table': _table_writer,
  'csv': _csv_writer,
  'jsonl': _jsonl_writer,
}
