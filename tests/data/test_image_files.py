"""Image files are found by what Pillow decodes, hidden ones are left out."""

import os

import pytest
from PIL import Image

from convmixer_jax.data.image_files import (
  as_utf8,
  describe,
  display_name,
  find_in_folder,
  is_hidden,
)


def names(found, root):
  return [os.path.relpath(path, root) for path in found.paths]


def save(path, file_format='JPEG'):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', (8, 8)).save(path, file_format)


def test_every_format_of_pillow_is_found_by_extension_or_content(tmp_path):
  images = ['a.jpg', 'b.JPG', 'c.jfif', 'd.jpe', 'e.tiff', 'deep/er/f.webp']
  images += ['g.jpg_large', 'no extension', 'h.avif']
  for name in images:
    save(tmp_path / name)
  (tmp_path / 'i.heic').write_bytes(b'')  # named by an error
  for name in ('notes.txt', 'Thumbs.db', 'clip.mpg', 'figure.eps', 'x.DNG'):
    (tmp_path / name).write_bytes(b'II*\0no image')
  found = find_in_folder(str(tmp_path))
  assert names(found, tmp_path) == sorted([*images, 'i.heic'])
  assert describe(found.passed_over) == (
    '1 a raw photograph, which has to be converted to JPEG, 4 not an image'
  )


def test_hidden_files_and_folders_are_left_out(tmp_path):
  save(tmp_path / 'a.jpg')
  for name in ('._a.jpg', '.ipynb_checkpoints/a.jpg', '__MACOSX/b.jpg'):
    save(tmp_path / name)
  found = find_in_folder(str(tmp_path))
  assert names(found, tmp_path) == ['a.jpg']
  assert describe(found.passed_over) == '3 hidden'
  assert find_in_folder(str(tmp_path / '.ipynb_checkpoints')).paths


def test_links_are_followed_once(tmp_path):
  save(tmp_path / 'elsewhere/far.jpg')
  save(tmp_path / 'photos/near/a.jpg')
  photos = tmp_path / 'photos'
  (photos / 'also near').symlink_to(photos / 'near')
  (photos / 'far').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'elsewhere/back').symlink_to(photos)
  (photos / 'itself.jpg').symlink_to(photos / 'itself.jpg')
  (photos / 'nothing.jpg').symlink_to(tmp_path / 'nothing.jpg')
  found = find_in_folder(str(photos))
  assert names(found, photos) == ['far/far.jpg', 'near/a.jpg']
  assert describe(found.passed_over) == '2 a link to nothing'


def test_pipes_are_not_opened(tmp_path):
  os.mkfifo(tmp_path / 'pipe.jpg')
  os.mkfifo(tmp_path / 'pipe')
  found = find_in_folder(str(tmp_path))
  assert (found.paths, describe(found.passed_over)) == ([], '2 not an image')


@pytest.mark.parametrize('path', ['..', '../a.jpg', './a', 'train/cat/1.jpg'])
def test_parents_are_not_hidden(path):
  assert not is_hidden(path)


def test_names_are_printable():
  path = os.fsdecode(b'a\xff\n\xc3\xa9.jpg')
  assert as_utf8(path) == 'a\\xff\n\xe9.jpg'
  assert display_name(path) == 'a\\xff\\n\xe9.jpg'
