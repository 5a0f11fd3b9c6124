"""Made images with any number of shapes in each: several labels an image."""

import pathlib

import numpy as np
import tiny_sets

from convmixer_jax.data.prepare.array_record_set import write_info, write_split

NAMES = ('disc', 'cross', 'stripes')
SIZE = 16
_HALF = 8  # side of the quarter of the image that a shape is in


def _draw(k):
  """Returns bool `[8, 8]`, the pixels of shape k."""
  rows, columns = np.mgrid[:_HALF, :_HALF] - (_HALF - 1) / 2
  return (
    rows**2 + columns**2 < 9,
    np.minimum(abs(rows), abs(columns)) < 1,
    columns.astype(int) % 2 == 0,
  )[k]


def examples(count, seed):
  """Returns images `[16, 16, 3]` in uint8, each with its labels; some none."""
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    image = rng.integers(0, 60, (SIZE, SIZE, 3), np.uint8)
    labels = np.flatnonzero(rng.random(len(NAMES)) < 0.4).tolist()
    for k, place in zip(labels, rng.permutation(4), strict=False):
      top, left = _HALF * (place // 2), _HALF * (place % 2)
      part = image[top : top + _HALF, left : left + _HALF]
      part[_draw(k)] = rng.integers(150, 256, 3)
    found.append((image, labels))
  return found


def write_set(data_dir, splits, multi_hot=False):
  """Writes the set `shapes` in TFDS's layout, with splits of these sizes."""
  directory = pathlib.Path(data_dir) / 'shapes' / '1.0.0'
  directory.mkdir(parents=True)
  label = tiny_sets.sequence_feature(tiny_sets.label_feature(len(NAMES)))
  if multi_hot:
    label = tiny_sets.tensor_feature('int64', len(NAMES))
  features = {'image': tiny_sets.image_feature(), 'label': label}
  lengths = {}
  for seed, (split, count) in enumerate(splits.items()):
    records = [
      (
        tiny_sets.encode(image),
        [int(k in labels) for k in range(len(NAMES))] if multi_hot else labels,
      )
      for image, labels in examples(count, seed)
    ]
    lengths[split] = write_split(directory, 'shapes', split, records)
  write_info(directory, 'shapes', features, lengths, () if multi_hot else NAMES)
  return str(data_dir)


def config_of(config, data_dir):
  """Changes a config into that of a tiny network for these images."""
  config.dataset.name, config.dataset.data_dir = 'shapes', str(data_dir)
  config.dataset.multi_label = True
  config.dataset.image_size = SIZE
  config.dataset.mean, config.dataset.std = (0.2,) * 3, (0.25,) * 3
  config.batch_size, config.num_epochs = 32, 12
  config.learning_rate, config.adam_epsilon = 0.02, 1e-8
  config.model.width, config.model.depth = 16, 2
  config.model.kernel_size, config.model.patch_size = 3, 2
  config.augment.crop = 'none'
  config.input.num_threads = 2
  return config
