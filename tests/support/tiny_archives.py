"""ImageNet's tars with a few tiny images, and what reads them back."""

import io
import tarfile

from PIL import Image

from convmixer_jax.data.prepare import tars

SYNSETS = ('n01440764', 'n02102040', 'n02979186')
VALIDATION_NAMES = [f'ILSVRC2012_val_{i:08d}.JPEG' for i in range(1, 7)]


def jpeg(shade=128):
  buffer = io.BytesIO()
  Image.new('RGB', (8, 8), (shade, 0, 0)).save(buffer, 'JPEG')
  return buffer.getvalue()


def add(tar, name, data=None):
  """Adds a file, or a directory if there are no data."""
  info = tarfile.TarInfo(name)
  info.size = len(data or b'')
  if data is None:
    info.type = tarfile.DIRTYPE
  tar.addfile(info, io.BytesIO(data or b''))


def tar_bytes(members):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w') as tar:
    for name, data in members:
      add(tar, name, data)
  return buffer.getvalue()


def inner_tar(synset, count=3):
  return tar_bytes(
    (f'{synset}_{i}.JPEG', jpeg(40 * i)) for i in range(1, count + 1)
  )


def write_train_tar(directory, members=None):
  members = members or [(f'{s}.tar', inner_tar(s)) for s in SYNSETS]
  path = directory / tars.TRAIN
  path.write_bytes(tar_bytes(members))
  return str(path)


def write_validation_tar(directory, names=VALIDATION_NAMES):
  path = directory / tars.VALIDATION
  path.write_bytes(
    tar_bytes((n, None if n.endswith('/') else jpeg()) for n in names)
  )
  return str(path)


def read_names(data_dir, split='train'):
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(data_dir / 'imagenet2012' / '5.1.0')
  source = builder.as_data_source(split)
  return [source[i]['file_name'].decode() for i in range(len(source))]


def one_line(error):
  text = str(error.value)
  assert '\n' not in text
  return text
