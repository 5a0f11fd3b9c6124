"""Prepares a data set with TFDS as array_record, from archives or downloads."""

import contextlib
import io
import os
import pathlib
import re
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from convmixer_jax.data.prepare import disk, tars, verify
from convmixer_jax.errors import UserError, one_line

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_TARS_NEEDED = {
  'imagenet2012': (tars.TRAIN, tars.VALIDATION),
  'imagenet2012_real': (tars.VALIDATION,),
}
_BYTES_PER_SECOND = 40e6  # of tars; measured on two shared cores and an SSD
_DOWNLOAD_TRIES = 4  # TFDS's default of 10 takes minutes without a network
_DOWNLOAD_ERRORS = ('DownloadError', 'NonMatchingChecksumError')  # of TFDS
_MAX_REASON_LENGTH = 400  # characters


def require_tensorflow() -> None:
  """Raises UserError unless TensorFlow, which TFDS needs here, is installed."""
  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    raise UserError(
      'preparing or converting a data set needs TensorFlow, reading one does '
      "not; install it: pip install 'convmixer-jax[prepare]', or, in a "
      'checkout, pip install -r requirements-prepare.txt'
    ) from error


def make(builder: 'tfds.core.DatasetBuilder', manual_dir: str) -> None:
  """Prepares the data set of a TFDS builder, and prints the progress.

  ImageNet's tars are checked first, because TFDS would find most faults after
  hours or not at all. The disk must have enough space for their contents.

  Raises:
    UserError: an archive is missing or damaged, the disk is full, or the
      download failed. No incomplete files are left in these cases.
  """
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import downloader

  _mention_other_versions(builder)
  if builder.version != builder.canonical_version:
    raise UserError(
      f'{builder.info.full_name} is not in {builder.data_path}, and TFDS makes '
      f'no version but {builder.canonical_version} of it'
    )
  size, counts = _check_tars(builder, manual_dir)
  if size:
    minutes = f': about {1 + size / _BYTES_PER_SECOND // 60:,.0f} min'
  else:
    minutes = ''
    sizes = [info.size for info in (builder.url_infos or {}).values()]
    size = min(sizes, default=0)  # TFDS does not say which ones it downloads
  disk.check_space(builder.data_path.parent, size)
  print(
    f'Making {builder.info.full_name} in {builder.data_path}{minutes}',
    flush=True,
  )
  # With known counts, TFDS's progress bars show the remaining time.
  builder.info.set_splits(
    tfds.core.splits.SplitDict(
      tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0)
      for split, count in counts.items()
    )
  )
  downloader.MAX_RETRIES = _DOWNLOAD_TRIES
  config = tfds.download.DownloadConfig(manual_dir=manual_dir)
  # TFDS prints that the size is unknown; its progress bars are on stderr.
  downloads = pathlib.Path(builder.data_dir_root) / 'downloads'
  with (
    disk.incomplete_downloads_removed(downloads),
    _short_progress_bars(),
    contextlib.redirect_stdout(io.StringIO()),
  ):
    try:
      builder.download_and_prepare(
        file_format='array_record', download_config=config
      )
    except Exception as error:
      traceback.clear_frames(error.__traceback__)  # ends TFDS's progress bars
      raise to_user_error(error, builder, manual_dir) from error


def to_user_error(
  error: Exception,
  builder: 'tfds.core.DatasetBuilder',
  manual_dir: str = '',
) -> UserError:
  """Converts an error of TFDS's preparation or conversion to a UserError."""
  text = one_line(error, limit=None)
  kind = type(error)
  if 'No space left on device' in text:
    root = builder.data_dir_root
    return UserError(
      f'the disk of {root} is full; free some space or choose another '
      '--data_dir, and run this command again'
    )
  request = getattr(error, 'request', None)  # in errors of `requests`
  if request is not None:
    text = f'{kind.__name__} at {request.url}'
  if request is not None or kind.__name__ in _DOWNLOAD_ERRORS:
    text = text.partition(': * Expected')[0]  # both checksums follow
    names = {info.filename for info in (builder.url_infos or {}).values()}
    return UserError(
      f'{builder.name} could not be downloaded ({_shorten(text)}); try '
      'again, or download it elsewhere and put it into '
      f'--manual_dir={manual_dir}, under the name TFDS expects: '
      f'{", ".join(sorted(filter(None, names)))}'
    )
  return UserError(
    f'{builder.info.full_name} could not be prepared: {kind.__name__}: '
    f'{_shorten(text)} (--debug shows where)'
  )


def _check_tars(
  builder: 'tfds.core.DatasetBuilder', manual_dir: str
) -> tuple[int, dict[str, int]]:
  """Checks the tars that an ImageNet data set is made from.

  Returns:
    Their size in bytes, and the number of examples of each split as far as it
    is known; for other data sets 0, and the counts of the full data set.
  """
  counts = dict(verify.full_counts(builder))
  names = _TARS_NEEDED.get(builder.name, ())
  paths = tars.find_tars(manual_dir, names)
  test = os.path.join(manual_dir, tars.TEST)
  if tars.TRAIN in names and os.path.exists(test):
    paths.append(test)  # TFDS makes a split from it if it exists
  for path in paths:
    print(f'Checking {path}', flush=True)
    if path.endswith(tars.TRAIN):
      synsets = builder.info.features['label'].names
      num_found = tars.check_train_tar(path, synsets)
      if num_found < len(synsets):
        del counts['train']
      found = f'{num_found:,} of {len(synsets):,} synsets'
    elif path.endswith(tars.VALIDATION):
      counts['validation'] = tars.check_validation_tar(path)
      found = f'{counts["validation"]:,} images'
    else:
      found = f'{tars.check_test_tar(path):,} images'
    print(f'  {found}, {disk.gigabytes(os.path.getsize(path))}')
  return sum(os.path.getsize(path) for path in paths), counts


def _mention_other_versions(builder: 'tfds.core.DatasetBuilder') -> None:
  for path in builder.data_path.parent.glob('*/dataset_info.json'):
    name = os.path.relpath(path.parent.parent, builder.data_dir_root)
    print(
      f'There is another version, {path.parent}; to use that one, give the '
      f'name {name}:{path.parent.name}'
    )


@contextlib.contextmanager
def _short_progress_bars() -> Iterator[None]:
  """Shortens TFDS's progress bars: a full path leaves no space for the bar."""
  from tensorflow_datasets.core import utils

  original = utils.tqdm

  def short(*args, desc='', **kwargs):
    desc = re.sub(r'Shuffling .*-(\w+)\.array_record.*', r'Shuffling \1', desc)
    return original(*args, desc=desc, **kwargs)

  utils.tqdm = short
  try:
    yield
  finally:
    utils.tqdm = original


def _shorten(text):
  """Removes the middle of a text: TFDS puts an example before the reason."""
  if len(text) <= _MAX_REASON_LENGTH:
    return text
  half = _MAX_REASON_LENGTH // 2
  return f'{text[:half]} ... {text[-half:]}'
