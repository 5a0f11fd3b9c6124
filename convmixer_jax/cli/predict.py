r"""Classifies image files: prints the five most probable classes of each.

  python -m convmixer_jax predict IMAGE_OR_FOLDER ... --source=SOURCE \
    [--format=csv] [--size=PIXELS|HEIGHT,WIDTH] [--noexif_rotate]

Folders, and links to folders, are searched at any depth for files that Pillow
decodes, by extension or else by content. Hidden files, such as `._photo.jpg`,
are left out; how many files were passed over is printed on stderr. A file that
cannot be read is reported, the others are still classified, and the exit status
is 1. Photographs are turned upright as their EXIF data says, unless
--noexif_rotate is given. `--format=csv` prints a row for each class: file,
rank, class (its number), name, probability; which network was loaded is then
printed on stderr.
"""

import csv
import sys
from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import source_flags
from convmixer_jax.cli.batch_size_flag import BATCH_SIZE
from convmixer_jax.errors import UserError

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
_FORMAT = flags.DEFINE_enum(
  'format', 'table', ['table', 'csv'], 'format of the output'
)
_EXIF_ROTATE = flags.DEFINE_bool(
  'exif_rotate',
  True,
  'turn photographs upright by the orientation in their EXIF data',
)


def main(argv: Sequence[str]) -> None:
  """Prints the classes of the images that the command line names."""
  if len(argv) < 2:
    raise UserError('no picture is named; name image files or folders of them')
  network = source_flags.load_source()

  from convmixer_jax.data.image_files import as_utf8, describe, display_name
  from convmixer_jax.pretrained.images import find_images
  from convmixer_jax.pretrained.predictions import predict_images

  paths, passed_over = find_images(argv[1:])
  labels = network.labels()
  is_csv = _FORMAT.value == 'csv'
  print(
    network.loaded_line,
    file=sys.stderr if is_csv else sys.stdout,
    flush=True,
  )
  if passed_over:
    print('Passed over:', describe(passed_over), file=sys.stderr, flush=True)
  rows = csv.writer(sys.stdout, lineterminator='\n')
  if is_csv:
    rows.writerow(['file', 'rank', 'class', 'name', 'probability'])
  broken = 0
  for prediction in predict_images(
    network,
    paths,
    BATCH_SIZE.value,
    source_flags.SIZE.value,
    _EXIF_ROTATE.value,
  ):
    if prediction.error is not None:
      broken += 1
      print('error:', prediction.error, file=sys.stderr, flush=True)
      continue
    if not is_csv:
      print(display_name(prediction.path or ''))
    for rank, (k, share) in enumerate(
      zip(prediction.best, prediction.probabilities, strict=True), start=1
    ):
      if is_csv:
        rows.writerow(
          [as_utf8(prediction.path or ''), rank, k, labels[k], f'{share:.6f}']
        )
      else:
        print(f'  {100 * share:5.1f} %  {labels[k]}')
    sys.stdout.flush()
  if broken:
    raise UserError(f'{broken} of {len(paths)} files could not be read')
