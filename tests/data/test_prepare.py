"""The prepare command: its results, checks, output and errors."""

import os
import signal
import tarfile
from types import SimpleNamespace

import commands
import pytest
from tiny_archives import (
  SYNSETS,
  VALIDATION_NAMES,
  add,
  inner_tar,
  one_line,
  read_names,
  write_train_tar,
  write_validation_tar,
)

from convmixer_jax.cli import prepare
from convmixer_jax.data.prepare import make, tars, verify
from convmixer_jax.errors import UserError
from convmixer_jax.locks.directory_lock import NAME


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, manual_dir):
  """The data set imagenet2012 made by the command; read-only."""
  data_dir = tmp_path_factory.mktemp('data')
  prepare.prepare('imagenet2012', str(data_dir), manual_dir)
  return data_dir


class TestMaking:
  def test_set_of_few_images_is_made_with_a_warning(
    self, tmp_path, manual_dir, capsys
  ):
    prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    out = capsys.readouterr().out
    assert '3 of 1,000 synsets' in out
    assert 'It holds train 9, validation 6 examples' in out
    assert 'has the label of its number (65, 970, 230, 809, ...)' in out
    assert 'WARNING: this is NOT the full imagenet2012' in out
    assert 'train 1,281,167, validation 50,000' in out
    assert sorted(read_names(tmp_path)) == sorted(
      f'{s}_{i}.JPEG' for s in SYNSETS for i in (1, 2, 3)
    )

  def test_a_second_call_only_checks(self, prepared, capsys):
    file = next((prepared / 'imagenet2012/5.1.0').glob('*train*'))
    before = file.stat().st_mtime_ns
    prepare.prepare('imagenet2012', str(prepared), '/no/such/directory')
    out = capsys.readouterr().out
    assert 'already' in out and 'It holds train 9' in out
    assert file.stat().st_mtime_ns == before

  def test_tfds_alone_reads_the_set(self, prepared):
    import tensorflow_datasets as tfds

    builder = tfds.builder('imagenet2012', data_dir=prepared)
    assert len(builder.as_data_source('validation')) == 6

  def test_missing_tars_are_refused(self, tmp_path):
    with pytest.raises(UserError, match=f'no {tars.TRAIN} and no'):
      prepare.prepare('imagenet2012', str(tmp_path))
    assert not list(tmp_path.glob('imagenet2012/*'))

  def test_incomplete_files_of_a_killed_run_are_deleted(
    self, tmp_path, manual_dir, capsys
  ):
    left = tmp_path / 'imagenet2012' / 'incomplete.ABC123_5.1.0'
    left.mkdir(parents=True)
    (left / 'bucket_1.tmp').write_bytes(b'x' * 1000)
    prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    assert f'Deleting {left}' in capsys.readouterr().out
    assert not left.exists()

  def test_a_directory_that_is_not_a_set_is_kept(self, tmp_path, manual_dir):
    file = tmp_path / 'imagenet2012' / '5.1.0' / 'precious'
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match=r'has no dataset_info.json'):
      prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    assert file.exists()

  def test_a_full_disk_is_reported(self, tmp_path, manual_dir, monkeypatch):
    from tensorflow_datasets.core import file_adapters

    def write_examples(path, iterator):
      raise RuntimeError(f'write() failed: No space left on device; {path}')

    adapter = file_adapters.ArrayRecordFileAdapter
    monkeypatch.setattr(adapter, 'write_examples', write_examples)
    with pytest.raises(UserError, match=r'the disk of .* is full'):
      prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    assert not list(tmp_path.glob('imagenet2012/*'))

  def test_a_truncated_inner_tar_is_reported(self, tmp_path):
    members = [(f'{s}.tar', inner_tar(s)[:3900]) for s in SYNSETS]
    write_train_tar(tmp_path, members)
    write_validation_tar(tmp_path)
    with pytest.raises(UserError, match='could not be prepared') as error:
      prepare.prepare('imagenet2012', str(tmp_path / 'data'), str(tmp_path))
    one_line(error)
    assert not list(tmp_path.glob('data/imagenet2012/*'))

  def test_another_version_is_mentioned(self, prepared, tmp_path, capsys):
    with pytest.raises(UserError, match=r'TFDS makes no version but 5.1.0'):
      prepare.prepare('imagenet2012:5.0.0', str(prepared))
    assert f'{prepared}/imagenet2012/5.1.0; to use that' in (
      capsys.readouterr().out
    )

  @pytest.mark.parametrize(
    ('name', 'message'),
    [
      ('cifar11', "'cifar11' is neither digits nor a TFDS data set"),
      ('imagenette/huge', 'not found.*full-size-v2, 320px-v2'),
      ('imagenet2012:4.0.0', 'cannot be loaded at version 4.0.0, only'),
    ],
  )
  def test_names_unknown_to_tfds_are_refused(self, tmp_path, name, message):
    with pytest.raises(UserError, match=message) as error:
      prepare.prepare(name, str(tmp_path))
    one_line(error)

  def test_a_bucket_as_data_dir_is_refused(self):
    with pytest.raises(UserError, match='not a local directory'):
      prepare.prepare('cifar10', 'gs://bucket/data')


class TestVerifying:
  def test_shifted_labels_are_found(self, tmp_path, manual_dir, monkeypatch):
    write_train_tar(tmp_path)
    write_validation_tar(tmp_path, ['./', *VALIDATION_NAMES])
    monkeypatch.setattr(tars, 'check_validation_tar', lambda _: 6)
    with pytest.raises(
      UserError, match='image 1 is labelled 970, but'
    ) as error:
      prepare.prepare('imagenet2012', str(tmp_path / 'data'), str(tmp_path))
    assert 'packed with its directory' in one_line(error)

  @pytest.mark.parametrize(
    ('damage', 'message'),
    [
      (lambda path: path.unlink(), 'is missing'),
      (lambda path: os.truncate(path, 70_000), 'is damaged|holds 0 of'),
      (lambda path: path.write_bytes(b''), 'is damaged'),
    ],
  )
  def test_damaged_files_are_found(self, tmp_path, manual_dir, damage, message):
    prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    damage(next(tmp_path.glob('imagenet2012/5.1.0/*train*')))
    with pytest.raises(UserError, match=message) as error:
      prepare.prepare('imagenet2012', str(tmp_path), manual_dir)
    assert 'train.array_record-00000-of-00001' in one_line(error)

  def test_full_counts_are_found_by_name_and_config(self):
    def counts(full_name):
      info = SimpleNamespace(full_name=full_name)
      name = full_name.partition('/')[0]
      return verify.full_counts(SimpleNamespace(name=name, info=info))

    assert counts('imagenette/320px-v2/1.0.0')['train'] == 9_469
    assert counts('imagenet_v2/top-images/3.0.0') == {'test': 10_000}
    assert counts('cifar10/3.0.2') == {'train': 50_000, 'test': 10_000}
    assert counts('imagenette/320px/1.0.0') == {}


class TestDownloads:
  def test_an_archive_in_the_manual_dir_is_used(
    self, tmp_path, capsys, monkeypatch
  ):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    rows = b''.join(bytes([label]) + bytes(3072) for label in range(10))
    names = [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']
    members = [(f'cifar-10-batches-bin/{n}.bin', rows) for n in names]
    labels = '\n'.join(tfds.builder('cifar10').info.features['label'].names)
    members.append(('cifar-10-batches-bin/batches.meta.txt', labels.encode()))
    archive = tmp_path / 'cifar-10-binary.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
      for name, data in members:
        add(tar, name, data)
    url_infos = tfds.builder_cls('cifar10').url_infos
    for url in url_infos:
      own = checksums.compute_url_info(archive)
      monkeypatch.setitem(url_infos, url, own)
    prepare.prepare('cifar10', str(tmp_path / 'data'), str(tmp_path))
    out = capsys.readouterr().out
    assert 'It holds train 50, test 10 examples' in out
    assert 'NOT the full cifar10' in out

  def test_error_without_network_names_the_file_to_download(
    self, tmp_path, monkeypatch
  ):
    import requests

    def get(self, url, **kwargs):
      request = requests.Request('GET', url)
      raise requests.ConnectionError('Max retries', request=request)

    monkeypatch.setattr(requests.Session, 'get', get)
    with pytest.raises(UserError, match='could not be downloaded') as error:
      prepare.prepare('cifar10', str(tmp_path))
    assert 'cs.toronto.edu' in one_line(error)
    assert 'TFDS expects: cifar-10-binary.tar.gz' in one_line(error)
    assert not list(tmp_path.glob('cifar10/*'))

  def test_long_reasons_are_shortened_in_the_middle(self):
    info = SimpleNamespace(full_name='cifar10/3.0.2')
    builder = SimpleNamespace(name='cifar10', info=info)
    error = make.to_user_error(ValueError('a' * 5000 + '\nthe reason'), builder)
    assert len(str(error)) < 600 and 'the reason' in str(error)


def run_command(*arguments, code=None):
  """Runs the command in a process, or `code` in place of the command."""
  program = ['-c', code] if code else ['convmixer_jax', 'prepare']
  return commands.run([*program, *arguments])


class TestCommand:
  def test_errors_of_the_command_are_one_line(self, tmp_path):
    result = run_command('imagenet2012', f'--data_dir={tmp_path}')
    assert result.returncode == 1
    assert result.stderr.startswith('error: --manual_dir=')
    assert result.stderr.count('\n') == 1
    assert result.stdout == ''
    result = run_command(f'--data_dir={tmp_path}')
    assert result.returncode == 1
    assert result.stderr.startswith('error: 0 data sets are named, not one')

  @pytest.mark.slow
  def test_a_killed_run_leaves_only_incomplete_files(
    self, tmp_path, manual_dir
  ):
    flags = [f'--data_dir={tmp_path}', f'--manual_dir={manual_dir}']
    killed_after_the_first_split = """
import os, signal
from convmixer_jax.cli import command, prepare
from tensorflow_datasets.core import writer

def write(self, path, examples, write=writer.ExampleWriter.write):
  if 'validation' in path:
    os.kill(os.getpid(), signal.SIGKILL)
  return write(self, path, examples)

writer.ExampleWriter.write = write
command.run(prepare.main)
"""
    result = run_command(
      'imagenet2012', *flags, code=killed_after_the_first_split
    )
    assert result.returncode == -signal.SIGKILL
    lock, left = sorted(
      tmp_path.glob('imagenet2012/*'), key=lambda path: path.is_dir()
    )
    assert (lock.name, left.name[:11]) == (NAME, 'incomplete.')
    assert list(left.glob('*train.array_record*'))

    result = run_command('imagenet2012', *flags)
    assert result.returncode == 0, result.stderr
    assert f'Deleting {left}' in result.stdout
    assert 'Traceback' not in result.stderr
    assert [p.name for p in tmp_path.glob('imagenet2012/*')] == ['5.1.0']


@pytest.mark.skipif(
  'CONVMIXER_TEST_DATA' not in os.environ,
  reason='CONVMIXER_TEST_DATA names no TFDS data_dir with real images',
)
@pytest.mark.parametrize('name', ['cifar10', 'imagenet2012'])
def test_real_sets_are_verified(name, capsys):
  prepare.prepare(name, os.environ['CONVMIXER_TEST_DATA'])
  out = capsys.readouterr().out
  assert 'already' in out
  assert 'It holds train' in out
