r"""Prepares and checks a TFDS data set as array_record, which training reads.

  python -m convmixer_jax prepare NAME[/CONFIG][:VERSION] \
    [--data_dir=DIR] [--manual_dir=DIR]

NAME is imagenet2012, cifar10, cifar100, imagenette, imagenet_v2,
imagenet2012_real, imagenet_a, imagenet_r, imagenet_sketch or any other image
set of TFDS. What it does depends on what data_dir holds of the set:

  nothing       TFDS's own builder makes the set. ImageNet's two tars, which
                you download yourself, are checked first; then it takes more
                than an hour, 160 GB of disk and 2.5 GB of memory.
  tfrecord      The records are copied to array_record files beside them; no
                tars are needed. The tfrecord files stay and remain what
                `tfds.load` reads; training reads the new ones.
  array_record  Nothing needs to be made.

Then the records are counted and, for ImageNet, all validation labels compared.

It may be stopped at any time. TFDS writes to a directory `incomplete.*` and
renames it at the end; the next call deletes what a killed one left, and
starts again. A conversion resumes at the file at which it stopped.

Making and converting need TensorFlow: pip install 'convmixer-jax[prepare]', or,
in a checkout, pip install -r requirements-prepare.txt

An archive that cannot be downloaded from here may be put into the manual_dir
under its own name, such as cifar-10-binary.tar.gz; TFDS verifies its checksum.
"""

import os
import time
from collections.abc import Sequence

from absl import flags, logging

from convmixer_jax.cli import output
from convmixer_jax.cli.data_flags import DATA_DIR
from convmixer_jax.data.builders import (
  find_builder,
  has_array_record,
  is_prepared,
)
from convmixer_jax.data.prepare import convert, disk, make, verify
from convmixer_jax.errors import UserError
from convmixer_jax.files import require_local

_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir',
  None,
  'directory of archives that you downloaded yourself; default: '
  'DATA_DIR/downloads/manual',
)


def prepare(
  name: str, data_dir: str | None = None, manual_dir: str | None = None
) -> None:
  """Makes a set, unless it is there, and checks it; prints what it does.

  Args:
    name: of the set, with its config and version if wanted, as TFDS takes it.
    data_dir: where TFDS keeps its sets; None for TFDS's default.
    manual_dir: directory of archives that TFDS cannot download; None for
      DATA_DIR/downloads/manual.

  Raises:
    UserError: there is no such set, an archive is missing or damaged, the disk
      is full, the download failed, or the result is wrong.
  """
  require_local(manual_dir, '--manual_dir')
  if data_dir and '://' in data_dir:
    raise UserError(
      f'--data_dir={data_dir} is not a local directory, and array_record files '
      'can only be written to one; prepare there, then copy the directory'
    )
  builder = find_builder(name, data_dir)
  if has_array_record(builder):
    print(f'{builder.info.full_name} is in {builder.data_path} already')
    if convert.forget_deleted_tfrecord(builder):
      print('Its tfrecord files are gone: array_record is now its only format')
  else:
    make.require_tensorflow()
    with disk.locked(builder.data_path.parent):
      builder = find_builder(name, data_dir)  # another run may just have ended
      disk.remove_incomplete(builder.data_path)
      started = time.monotonic()
      if is_prepared(builder):
        _convert(builder)
      elif builder.data_path.exists():
        raise UserError(
          f'{builder.data_path} has no dataset_info.json, so it is not a '
          'complete TFDS set, although TFDS would load it; move it away'
        )
      else:
        default = os.path.join(builder.data_dir_root, 'downloads', 'manual')
        make.make(builder, os.path.expanduser(manual_dir or default))
      print(f'Done in {(time.monotonic() - started) / 60:.1f} min')
    builder = find_builder(name, data_dir)
  _check(builder)


def _convert(builder):
  """Copies the tfrecord files of a set to array_record."""
  file_format = builder.info.file_format.value
  if file_format != 'tfrecord':
    raise UserError(
      f'{builder.data_path} is stored as {file_format}; only tfrecord can be '
      'converted to array_record'
    )
  print(f'{builder.info.full_name} is in {builder.data_path} as tfrecord')
  disk.check_space(builder.data_path, convert.bytes_to_convert(builder))
  print('Converting it to array_record', flush=True)
  try:
    convert.convert_to_array_record(builder)
  except UserError:
    raise
  except Exception as error:
    raise make.to_user_error(error, builder) from error
  print(
    'The tfrecord files are unchanged; if nothing else reads them, delete '
    f'them and call this again: rm {builder.data_path}/*.tfrecord*'
  )


def _check(builder):
  """Checks a prepared set and prints what it holds."""
  counts, size = verify.check_records(builder)
  held = ', '.join(f'{split} {n:,}' for split, n in counts.items())
  print(f'It holds {held} examples, {disk.gigabytes(size)}')
  labels = verify.check_validation_labels(builder)
  if labels:
    print(labels)
  full = verify.full_counts(builder)
  differing = {split: n for split, n in full.items() if counts.get(split) != n}
  if differing:
    expected = ', '.join(f'{split} {n:,}' for split, n in differing.items())
    print(
      f'WARNING: this is NOT the full {builder.info.full_name}, which has '
      f'{expected} examples; results on it are not results on the full set'
    )
  elif full:
    print(f'This is the full {builder.info.full_name}')
  else:
    print(f'{builder.info.full_name} is as TFDS made it')


def main(argv: Sequence[str]) -> None:
  """Prepares the data set named on the command line."""
  output.keep_going()  # a long download survives its terminal
  if len(argv) != 2:
    raise UserError(
      f'{len(argv) - 1} data sets are named, not one; such as: python -m '
      'convmixer_jax prepare cifar10 --data_dir=DIR'
    )
  if logging.get_verbosity() == logging.WARNING:
    logging.set_verbosity(logging.ERROR)  # TFDS warns of what is checked here
  try:
    prepare(argv[1], DATA_DIR.value, _MANUAL_DIR.value)
  except KeyboardInterrupt as error:
    raise UserError('interrupted; the same command starts it again') from error
