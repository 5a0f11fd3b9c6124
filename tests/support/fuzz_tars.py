"""Archives for `prepare`, and corrupted ones."""

import gzip
import tarfile

import tiny_archives
from corruption import corrupt

from convmixer_jax.data.prepare import tars
from convmixer_jax.data.prepare.image_tar import (
  check_image_tar,
  prepare_image_tar,
)

_BLOCK = 512


def set_up(directory, trained_run):
  del trained_run
  tiny_archives.write_train_tar(directory)
  tiny_archives.write_validation_tar(directory)
  images = tiny_archives.tar_bytes(
    [(f'train/cat/{i}.jpg', tiny_archives.jpeg(i)) for i in range(3)]
  )
  train = (directory / tars.TRAIN).read_bytes()
  with tarfile.open(directory / tars.TRAIN) as tar:
    synsets = [member.name[:-4] for member in tar]
  path = directory / 'fuzz.tar'

  def read_images(data):
    path.write_bytes(data)
    check_image_tar(str(path))
    prepare_image_tar(str(path), directory / 'data', 'fuzz')

  def read_train(data):
    path.write_bytes(data)
    tars.check_train_tar(str(path), synsets)

  def read_validation(data):
    path.write_bytes(data)
    tars.check_validation_tar(str(path))

  def read_test(data):
    path.write_bytes(data)
    tars.check_test_tar(str(path))

  cases = {
    'images': (read_images, images),
    'images, compressed': (read_images, gzip.compress(images)),
    'train': (read_train, train),
    'validation': (
      read_validation,
      (directory / tars.VALIDATION).read_bytes(),
    ),
    'test': (read_test, images),
  }
  return lambda case: case[0](case[1]), cases


def corrupt_tar(cases, rng):
  read, data = cases[sorted(cases)[int(rng.integers(len(cases)))]]
  if data[:2] != b'\x1f\x8b' and rng.random() < 0.7:
    # Header blocks, whose checksum is set right again.
    start = _BLOCK * int(rng.integers(len(data) // _BLOCK))
    header = bytearray(
      corrupt(data[start : start + 500], rng)[:500].ljust(512, b'\0')
    )
    if rng.random() < 0.5:
      at = int(rng.choice([124, 156, 257, 345, 386, 482]))
      header[at : at + 12] = (b'\x80' + rng.bytes(11))[:12]
    if rng.random() < 0.5:
      header[156] = int(rng.choice(list(b'0123456789LKSxgVMD')))
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    return read, data[:start] + bytes(header) + data[start + _BLOCK :]
  return read, corrupt(data, rng)
