"""The lock of a directory in a bucket."""

import json

import buckets
import pytest
from etils import epath

from convmixer_jax.errors import InUse
from convmixer_jax.locks import directory_lock as lock_lib
from convmixer_jax.locks.directory_lock import DirectoryLock
from convmixer_jax.locks.lock_file import BucketFile

pytestmark = buckets.marks()


@pytest.fixture(scope='module')
def server():
  with buckets.serve() as bucket:
    yield bucket


@pytest.fixture
def bucket(server, monkeypatch):
  for name, value in server.environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr(lock_lib, 'STALE_AFTER', 0.5)
  monkeypatch.setattr(lock_lib, '_POLL', 0.05)
  return server


@pytest.mark.filterwarnings('ignore')  # of Google's client library
def test_object_is_created_replaced_and_deleted_by_one_of_two(bucket):
  path = epath.Path('gs://bucket/file')
  first, second = BucketFile(path), BucketFile(path)
  assert first.read() is None
  assert first.create(b'one')
  assert not second.create(b'two')
  content, version = second.read()
  assert content == b'one'
  first.refresh(b'one again')
  assert not second.replace(b'two', version)
  assert second.replace(b'two', second.read()[1])
  with pytest.raises(FileNotFoundError):
    first.refresh(b'one')
  first.delete()
  assert second.read()[0] == b'two'
  second.delete()
  assert bucket.names() == []


@pytest.mark.filterwarnings('ignore')
def test_run_in_a_bucket_is_locked_and_a_stale_lock_is_taken_over(bucket):
  directory = epath.Path('gs://bucket/run')
  with DirectoryLock(directory):
    assert bucket.names() == [f'run/{lock_lib.NAME}']
    with pytest.raises(InUse), DirectoryLock(directory):
      pass
  assert bucket.names() == []
  owner = lock_lib.describe_process() | {'machine': 'another host'}
  content = f'{owner["token"]}\n{json.dumps(owner)}\n'
  bucket.write(f'run/{lock_lib.NAME}', content.encode())
  with DirectoryLock(directory) as lock:
    lock.check()
  assert bucket.names() == []


@pytest.mark.filterwarnings('ignore')
def test_write_whose_answer_was_lost_is_recognised(bucket):
  path = epath.Path('gs://bucket/file')
  file = BucketFile(path)
  assert file.create(b'one\n1')
  assert BucketFile(path).create(b'one\n1')  # as the client library repeats it
  generation = file._generation
  file.refresh(b'one\n2')
  file._generation = generation
  file.refresh(b'one\n3')
  file.refresh(b'one\n4')
  assert file.read()[0] == b'one\n4'
  file.delete()
  assert bucket.names() == []
