"""Directories of tiny images in class folders."""

import io
import os
import pathlib

import numpy as np
from PIL import Image


def encode(seed=0, file_format='PNG', size=8, **options):
  """Returns an image of noise as a file's bytes."""
  pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3))
  stream = io.BytesIO()
  Image.fromarray(pixels.astype(np.uint8)).save(stream, file_format, **options)
  return stream.getvalue()


def write_tree(root, counts, seed=0):
  """Writes so many images into each folder, such as 'train/cat'."""
  for folder, count in counts.items():
    path = os.path.join(os.fsencode(root), os.fsencode(folder))
    os.makedirs(path, exist_ok=True)
    for _ in range(count):
      with open(os.path.join(path, b'%03d.png' % seed), 'wb') as file:
        file.write(encode(seed))
      seed += 1
  return pathlib.Path(root)
