"""Folders of images with `labels.csv`."""

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.data import label_counts
from convmixer_jax.data.folders import splits
from convmixer_jax.data.folders.label_source import LabelTableSource
from convmixer_jax.data.folders.label_tables import has_tables
from convmixer_jax.errors import UserError

HEADER = 'file,labels,split'


def write(folder, rows, header='file,labels'):
  """Writes images of one colour each, and their table."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, row in enumerate(rows):
    path = folder / row.partition(',')[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (4, 4), (number, 0, 0)).save(path)
  text = '\n'.join([header, *rows]) + '\n'
  (folder / 'labels.csv').write_text(text, encoding='utf-8')
  return str(folder)


def read(source):
  """Returns the classes of each image by its colour."""
  examples = [source[i] for i in range(len(source))]
  return {
    int(example['image'][0, 0, 0]): [
      source.class_names[k] for k in np.flatnonzero(example['label'])
    ]
    for example in examples
  }


def test_tables_beside_the_images_of_each_split(tmp_path):
  write(tmp_path / 'train', ['a.png,cat; dog', 'deep/b.png,', 'c.png,dog|cow'])
  write(tmp_path / 'Val', ['a.png,cow'])
  source = LabelTableSource(str(tmp_path), 'train')
  assert source.class_names == ('cat', 'cow', 'dog')
  assert read(source) == {0: ['cat', 'dog'], 1: [], 2: ['cow', 'dog']}
  assert read(LabelTableSource(str(tmp_path), 'validation')) == {0: ['cow']}
  assert has_tables(str(tmp_path))
  assert splits.default_split(str(tmp_path)) == 'validation'
  with pytest.raises(UserError, match='has no split'):
    LabelTableSource(str(tmp_path), 'nothing')


def test_column_of_splits(tmp_path):
  rows = ['a.png,cat,train', 'b.png,dog,TEST', 'ü 1.png,,train']
  directory = write(tmp_path, rows, 'file,labels,split')
  assert read(LabelTableSource(directory, 'train')) == {0: ['cat'], 2: []}
  assert read(LabelTableSource(directory, 'test')) == {1: ['dog']}
  assert len(LabelTableSource(directory, 'all')) == 3


def test_slices_are_a_partition_that_depends_on_names_alone(tmp_path):
  rows = [f'{number:02}.png,{"ab"[number % 2]}' for number in range(20)]
  directory = write(tmp_path / 'one', rows)
  parts = [
    LabelTableSource(directory, split)
    for split in ('train[:25%]', 'train[25%:]', 'train', 'validation', 'all')
  ]
  assert [len(part) for part in parts] == [5, 15, 18, 2, 20]
  colours = [sorted(read(part)) for part in parts]
  assert sorted(colours[0] + colours[1]) == colours[4] == list(range(20))
  assert sorted(colours[2] + colours[3]) == list(range(20))

  write(tmp_path / 'two', rows)
  table = '\n'.join(['file,labels', *reversed(rows)])
  (tmp_path / 'two' / 'labels.csv').write_text(table)
  again = LabelTableSource(str(tmp_path / 'two'), 'train[:25%]')
  assert list(read(again)) == list(read(parts[0]))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('a.png,cat\n', "has the columns 'a.png', 'cat', but 'file' and 'labels'"),
    ('file, labels\na.png,cat\n', "has the columns 'file', ' labels', but"),
    ('file,labels,labels\na.png,cat,dog\n', 'has two columns of one name'),
    ('file,labels\na.png,"c\nt"\n', "has the label 'c..t', with a char"),
    ('', 'has the columns none'),
    ('file,labels\na.png,cat\na.png,dog\n', "has 'a.png' twice"),
    ('file,labels\na.png,cat;cat\n', "line 2 has the label 'cat' twice"),
    ('file,labels\na.png,cat;;dog\n', 'has an empty label'),
    ('file,labels\na.png,cat,dog\n', 'line 2 does not have 2 cells'),
    ('file,labels\na.png\n', 'line 2 does not have 2 cells'),
    ('file,labels\n../a.png,cat\n', 'give a path relative to the table'),
    ('file,labels\n/a.png,cat\n', 'give a path relative to the table'),
    ('file,labels\nb.png,cat\n', '1 of 1 images that labels.csv lists do not'),
    ('file,labels\na.png,\n', 'no row of labels.csv has a label'),
    ('file,labels,split\na.png,cat,x\n', "line 2 has the split 'x'"),
    ('file,labels\na.png,"cat\n', 'is not CSV'),
    (b'file,labels\na.png,\xff\n', 'it is not UTF-8'),
  ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path, content, message):
  write(tmp_path, ['a.png,x'])
  if isinstance(content, str):
    content = content.encode()
  (tmp_path / 'labels.csv').write_bytes(content)
  with pytest.raises(UserError, match=message) as error:
    LabelTableSource(str(tmp_path), 'all')
  assert '\n' not in str(error.value)


def test_folder_without_a_table_is_refused(tmp_path):
  assert not has_tables(str(tmp_path))
  with pytest.raises(
    UserError, match=r'has no labels\.csv, which config\.data'
  ):
    LabelTableSource(str(tmp_path), 'train')


def test_table_of_one_split_does_not_list_images_of_another(tmp_path):
  write(tmp_path / 'train', ['a.png,cat,train', 'b.png,dog,val'], HEADER)
  write(tmp_path / 'val', ['a.png,dog', 'b.png,cat'])
  with pytest.raises(UserError, match='split validation, which has a table'):
    LabelTableSource(str(tmp_path), 'validation')


def test_labels_are_equal_whatever_their_unicode_form(tmp_path):
  directory = write(tmp_path, ['a.png,caf\u00e9', 'b.png,cafe\u0301;tea'])
  assert LabelTableSource(directory, 'all').class_names == ('caf\u00e9', 'tea')


def test_lines_may_end_as_on_old_macintoshes(tmp_path):
  directory = write(tmp_path, ['a.png,cat', 'b.png,dog'])
  path = tmp_path / 'labels.csv'
  path.write_bytes(path.read_bytes().replace(b'\n', b'\r'))
  assert len(LabelTableSource(directory, 'all')) == 2


def test_labels_are_counted_without_reading_images(tmp_path):
  write(tmp_path, ['a.png,cat;dog', 'b.png,', 'c.png,dog'])
  source = LabelTableSource(str(tmp_path), 'all')
  for path in tmp_path.glob('*.png'):
    path.unlink()
  found = label_counts.count(source)
  assert found.images.tolist() == [1, 2]
  assert (found.without, found.num_seen, found.is_complete) == (1, 3, True)
