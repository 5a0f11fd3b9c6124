"""Conversion of a tfrecord data set to array_record."""

import os

import pytest
from tiny_archives import (
  read_names,
)

from convmixer_jax.cli import prepare
from convmixer_jax.data import sources
from convmixer_jax.data.prepare import convert
from convmixer_jax.errors import UserError


def make_tfrecord(data_dir, manual_dir, shards=2):
  import tensorflow_datasets as tfds

  tfds.builder('imagenet2012', data_dir=data_dir).download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      manual_dir=manual_dir, num_shards=shards
    )
  )
  return data_dir / 'imagenet2012' / '5.1.0'


def test_records_are_equal_and_tfds_load_still_works(
  tmp_path, manual_dir, capsys
):
  import tensorflow_datasets as tfds

  directory = make_tfrecord(tmp_path, manual_dir)
  before = {p.name: p.read_bytes() for p in directory.glob('*.tfrecord*')}
  prepare.prepare('imagenet2012', str(tmp_path))
  out = capsys.readouterr().out
  assert 'as tfrecord' in out and 'It holds train 9' in out
  prepare.prepare('imagenet2012', str(tmp_path / 'made'), manual_dir)
  assert read_names(tmp_path) == read_names(tmp_path / 'made')
  after = {p.name: p.read_bytes() for p in directory.glob('*.tfrecord*')}
  assert after == before
  assert len(tfds.load('imagenet2012', data_dir=tmp_path, split='train')) == 9
  source = sources.TfdsSource('imagenet2012', 'train', str(tmp_path))
  assert len(source) == 9 and source[8]['image'].shape == (8, 8, 3)

  prepare.prepare('imagenet2012', str(tmp_path))
  assert 'already' in capsys.readouterr().out

  for path in directory.glob('*.tfrecord*'):
    path.unlink()
  prepare.prepare('imagenet2012', str(tmp_path))
  assert 'its only format' in capsys.readouterr().out
  builder = tfds.builder('imagenet2012', data_dir=tmp_path)
  assert len(builder.as_data_source('train')) == 9


def test_interrupted_conversion_is_resumed(tmp_path, manual_dir, monkeypatch):
  directory = make_tfrecord(tmp_path, manual_dir)
  info = (directory / 'dataset_info.json').read_text()
  records = convert._records

  def stop_in_the_third(path, length, bar):
    if 'validation' in path:
      raise KeyboardInterrupt
    return records(path, length, bar)

  monkeypatch.setattr(convert, '_records', stop_in_the_third)
  with pytest.raises(KeyboardInterrupt):
    prepare.prepare('imagenet2012', str(tmp_path))
  assert (directory / 'dataset_info.json').read_text() == info
  first = {p: p.stat().st_mtime_ns for p in directory.glob('*.array_record*')}
  assert [p.name[:18] for p in first] == ['imagenet2012-train'] * 2
  (directory / 'incomplete.x.array_record-00000-of-00002').touch()

  monkeypatch.undo()
  prepare.prepare('imagenet2012', str(tmp_path))
  assert {p: p.stat().st_mtime_ns for p in first} == first
  assert not list(directory.glob('incomplete*'))
  assert len(read_names(tmp_path, 'validation')) == 6


def test_damaged_and_missing_files_are_refused(tmp_path, manual_dir):
  directory = make_tfrecord(tmp_path, manual_dir)
  file = sorted(directory.glob('*train.tfrecord*'))[1]
  os.truncate(file, file.stat().st_size - 10)
  with pytest.raises(UserError, match=f'{file} is damaged after'):
    prepare.prepare('imagenet2012', str(tmp_path))
  file.unlink()
  with pytest.raises(UserError, match=f'{file} is missing'):
    prepare.prepare('imagenet2012', str(tmp_path))
