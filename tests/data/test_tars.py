"""Faults of ImageNet's tars are found by their headers."""

import os

import pytest
from tiny_archives import (
  SYNSETS,
  VALIDATION_NAMES,
  inner_tar,
  jpeg,
  one_line,
  tar_bytes,
  write_train_tar,
  write_validation_tar,
)

from convmixer_jax.data.prepare import tars
from convmixer_jax.errors import UserError


def test_members_of_complete_tars_are_counted(tmp_path):
  assert tars.check_train_tar(write_train_tar(tmp_path), SYNSETS) == 3
  assert tars.check_validation_tar(write_validation_tar(tmp_path)) == 6
  assert tars.check_test_tar(write_validation_tar(tmp_path)) == 6


def test_all_missing_tars_are_named_at_once(tmp_path):
  names = [tars.TRAIN, tars.VALIDATION]
  with pytest.raises(UserError, match=f'no {tars.TRAIN} and no {names[1]}'):
    tars.find_tars(str(tmp_path), names)
  write_train_tar(tmp_path)
  with pytest.raises(UserError) as error:
    tars.find_tars(str(tmp_path), names)
  assert f'{tmp_path} has no {tars.VALIDATION}; it must' in one_line(error)


@pytest.mark.parametrize(
  ('members', 'message'),
  [
    ([('n99999999.tar', inner_tar('n99999999'))], "'n99999999' is not one"),
    ([('train/', None)], "'train'; it should hold one tar for each"),
    ([('n01440764/a.JPEG', jpeg())], 'should hold one tar for each'),
    ([(f'{SYNSETS[0]}.tar', inner_tar(SYNSETS[0]))] * 2, 'twice'),
    ([(f'{SYNSETS[0]}.tar', b'<html>' * 200)], 'is not a tar'),
    ([(f'{SYNSETS[0]}.tar', inner_tar(SYNSETS[1]))], 'not with an image of'),
    ([(f'{SYNSETS[0]}.tar', tar_bytes([]))], 'begins with nothing'),
  ],
)
def test_faults_of_the_train_tar_are_refused(tmp_path, members, message):
  path = write_train_tar(tmp_path, members)
  with pytest.raises(UserError, match=message) as error:
    tars.check_train_tar(path, SYNSETS)
  assert path in one_line(error)


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (['val/', *VALIDATION_NAMES], "the directory 'val'"),
    (['./', *VALIDATION_NAMES], "the directory '.'"),
    ([f'val/{n}' for n in VALIDATION_NAMES], "'val/ILSVRC2012_val_00000001"),
    (
      VALIDATION_NAMES[:2] + VALIDATION_NAMES[3:],
      'not ILSVRC.*00000003.JPEG',
    ),
    (VALIDATION_NAMES + VALIDATION_NAMES[:1], '00000001.JPEG. twice'),
    (['._' + VALIDATION_NAMES[0], *VALIDATION_NAMES], r"'\._ILSVRC"),
  ],
)
def test_entries_that_shift_the_labels_are_refused(tmp_path, names, message):
  path = write_validation_tar(tmp_path, names)
  with pytest.raises(UserError, match=message) as error:
    tars.check_validation_tar(path)
  assert 'every label after it would be shifted' in one_line(error)


@pytest.mark.parametrize('size', [0, 100, 512, 700, 1024, 2000, 5 * 1024])
def test_a_truncated_tar_is_refused(tmp_path, size):
  path = write_validation_tar(tmp_path)
  os.truncate(path, size)
  with pytest.raises(UserError, match=r'ends|is not a tar'):
    tars.check_validation_tar(path)


def test_error_of_a_truncated_train_tar_has_its_size(tmp_path):
  path = write_train_tar(tmp_path)
  os.truncate(path, 22_000)
  with pytest.raises(UserError, match=r'after 22,000 bytes .*147,897,477,120'):
    tars.check_train_tar(path, SYNSETS)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / tars.TRAIN
  path.write_bytes(b'<html>Sign in</html>' * 100)
  with pytest.raises(UserError, match='is not a tar'):
    tars.check_train_tar(str(path), SYNSETS)
  with pytest.raises(UserError, match='cannot be read'):
    tars.check_train_tar(str(tmp_path), SYNSETS)
