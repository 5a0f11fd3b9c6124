r"""Says what is in pictures: the five best classes of each.

  python -m convmixer_jax predict IMAGE_OR_FOLDER ... \
    --workdir=RUN | --weights=FILE [--format=csv] [--size=PIXELS]

Folders are looked through at any depth. A file that cannot be read is named,
the others go on, and the exit status is 1 in the end. `--format=csv` prints a
row for each class: file, rank, class (its number), name, probability.
"""

import csv
import sys
from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import source_flags
from convmixer_jax.errors import UserError

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
_FORMAT = flags.DEFINE_enum(
  'format', 'table', ['table', 'csv'], 'of the output'
)


def main(argv: Sequence[str]) -> None:
  """Prints what is in the pictures that the command line names."""
  if len(argv) < 2:
    raise UserError('no picture is named; name image files or folders of them')
  network = source_flags.from_flags()

  from convmixer_jax.evaluation import predictions

  paths = predictions.find_images(argv[1:])
  labels = network.labels()
  rows = csv.writer(sys.stdout, lineterminator='\n')
  if _FORMAT.value == 'csv':
    rows.writerow(['file', 'rank', 'class', 'name', 'probability'])
  broken = 0
  for seen in predictions.predict_files(
    network, paths, source_flags.BATCH_SIZE.value, source_flags.SIZE.value
  ):
    if seen.error is not None:
      broken += 1
      print('error:', seen.error, file=sys.stderr, flush=True)
      continue
    if _FORMAT.value == 'table':
      print(seen.path)
    for rank, (k, share) in enumerate(
      zip(seen.best, seen.probabilities, strict=True), start=1
    ):
      if _FORMAT.value == 'csv':
        rows.writerow([seen.path, rank, k, labels[k], f'{share:.6f}'])
      else:
        print(f'  {100 * share:5.1f} %  {labels[k]}')
    sys.stdout.flush()
  if broken:
    raise UserError(f'{broken} of {len(paths)} files could not be read')
