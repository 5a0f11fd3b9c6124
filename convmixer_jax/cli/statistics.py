r"""Prints mean and standard deviation per channel of a set of images.

  python -m convmixer_jax statistics --config=configs/folder.py \
    --config.dataset.data_dir=photos
  python -m convmixer_jax statistics --dataset=NAME [--data_dir=DIR] \
    [--split=train] [--image_feature=NAME] [--channels=C]

Every image of the training split is read once, in its own size. The last line
has the flags to train with. The values are in the units of config.dataset.mean:
uint8 images are divided by 255, uint16 ones by 65,535, float32 ones are taken
as they are. The number of channels is that of the files, of which alpha does
not count; --channels=1 reads colour as grey, --channels=3 grey as colour.
"""

from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import command, data_flags
from convmixer_jax.cli.config_flag import CONFIG
from convmixer_jax.errors import UserError

flags.adopt_module_key_flags(data_flags)
_DATASET = flags.DEFINE_string(
  'dataset', None, 'data set, in place of a config: its name, or a directory'
)
_SPLIT = flags.DEFINE_string(
  'split', None, "split of the data set; default: the config's, or train"
)
_IMAGE_FEATURE = flags.DEFINE_string(
  'image_feature', None, 'feature of the images, or several with commas'
)
_CHANNELS = flags.DEFINE_integer(
  'channels', None, 'channels; default: those of the files', lower_bound=1
)
_MOST_SIZES = 5  # that are printed
_DIGITS = 5  # of the values


def main(argv: Sequence[str]) -> None:
  """Reads the images, and prints their statistics."""
  command.refuse_arguments(argv)
  from convmixer_jax.data.known_sets import data_name
  from convmixer_jax.data.sources import open_source
  from convmixer_jax.data.statistics import compute_statistics, find_channels

  dataset = _choose_data()
  split = _SPLIT.value or dataset.train_split
  channels = _CHANNELS.value or find_channels(dataset, split)
  dataset.mean = (0.5,) * channels
  dataset.std = (0.5,) * channels
  source = open_source(dataset, split)
  found = compute_statistics(source)
  print(
    f'{data_name(dataset.name, dataset)} {split}: {len(source):,} images of '
    f'{found.dtype}, '
    f'{channels} channel{"s"[: channels != 1]}'
  )
  print(f'sizes (height x width): {_describe_sizes(found.sizes)}')
  print('channel        mean         std         min         max')
  for row in zip(
    range(channels), found.mean, found.std, found.low, found.high, strict=True
  ):
    print('{:7d}{:12.6g}{:12.6g}{:12.6g}{:12.6g}'.format(*row))
  mean, std = _as_tuple(found.mean), _as_tuple(found.std)
  if constant := [k for k, value in enumerate(found.std) if not value]:
    print(
      f'WARNING: channel {constant[0]} has one value in all images; leave it '
      'out, or give its std as 1'
    )
    std = _as_tuple(value or 1.0 for value in found.std)
  print(f"--config.dataset.mean='{mean}' --config.dataset.std='{std}'")


def _choose_data():
  """Returns `config.dataset` of the data that the flags name."""
  import ml_collections

  from convmixer_jax.config import default_config
  from convmixer_jax.data.sources import FOLDER
  from convmixer_jax.evaluation.chosen_data import is_directory

  if (CONFIG.value is None) == (_DATASET.value is None):
    raise UserError('give --config=FILE or --dataset=NAME, one of both')
  if CONFIG.value is not None:
    dataset = CONFIG.value.dataset
  else:
    dataset = default_config(ml_collections.ConfigDict()).dataset
    dataset.name = _DATASET.value
    if data_flags.DATA_DIR.value is None and is_directory(dataset.name):
      dataset.name, dataset.data_dir = FOLDER, _DATASET.value
    if dataset.name == 'digits':
      dataset.mean = dataset.std = (0.5,)
  if data_flags.DATA_DIR.value is not None:
    dataset.data_dir = data_flags.DATA_DIR.value
  if _IMAGE_FEATURE.value is not None:
    dataset.image_feature = _IMAGE_FEATURE.value
  return dataset


def _describe_sizes(sizes):
  """Returns the most frequent sizes, with numbers of images."""
  if len(sizes) == 1:
    ((height, width),) = sizes
    return f'all {height} x {width}'
  shown = [
    f'{height} x {width} ({count:,})'
    for (height, width), count in sizes.most_common(_MOST_SIZES)
  ]
  more = len(sizes) - len(shown)
  rest = f' and {more:,} other' if more else ''
  heights, widths = zip(*sizes, strict=True)
  return (
    f'{", ".join(shown)}{rest}; height {min(heights)} to {max(heights)}, width '
    f'{min(widths)} to {max(widths)}'
  )


def _as_tuple(values):
  numbers = [f'{value:.{_DIGITS}g}' for value in values]
  return f'({",".join(numbers)}{"," if len(numbers) == 1 else ""})'
