"""Writes a copy of CIFAR-10 with every image encoded as JPEG a second time.

    python scripts/reencode_cifar10.py --data_dir=DIR --to=OTHER_DIR

The loss of accuracy estimates that of the first encoding. Quality (75) and
chroma subsampling (half the resolution) equal those of the first. The image is
shifted by half a block, since with the same blocks almost nothing would change.
"""

import argparse
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_SHIFT = 4  # half a block
_QUALITY = 75


def encode(image: np.ndarray) -> np.ndarray:
  """Encodes a uint8 image [height, width, 3] as JPEG, and decodes it."""
  margin = (_SHIFT, _SHIFT)
  padded = np.pad(image, [margin, margin, (0, 0)], mode='edge')
  file = io.BytesIO()
  Image.fromarray(padded).save(
    file, 'JPEG', quality=_QUALITY, subsampling='4:2:0'
  )
  return np.asarray(Image.open(file))[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--data_dir', required=True, help='directory of TFDS with cifar10'
  )
  parser.add_argument(
    '--to', required=True, help='directory of TFDS to write the copy to'
  )
  arguments = parser.parse_args()
  builder = tfds.builder('cifar10', data_dir=arguments.data_dir)
  errors, splits = [], {}
  for split, source in builder.as_data_source().items():
    splits[split] = []
    for number in range(len(source)):
      record = source[number]
      image = encode(record['image'])
      errors.append(np.mean((image - record['image'].astype(float)) ** 2))
      splits[split].append((number, record | {'image': image}))
  tfds.dataset_builders.store_as_tfds_dataset(
    name='cifar10',
    version=builder.version,
    features=builder.info.features,
    split_datasets=splits,
    data_dir=arguments.to,
    file_format='array_record',
    disable_shuffling=True,
  )
  signal = 10 * np.log10(255**2 / np.mean(errors))
  print(f'{arguments.to}: {signal:.1f} dB of signal to noise (PSNR)')


if __name__ == '__main__':
  main()
