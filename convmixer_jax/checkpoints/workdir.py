"""The run directory: its files, and whether a run in it can be resumed."""

import json
from collections.abc import Sequence

import ml_collections
from etils import epath

from convmixer_jax import files, models
from convmixer_jax.bucket_access import check_access, is_access_check
from convmixer_jax.config import changed_keys, check_known, flatten
from convmixer_jax.data import identity
from convmixer_jax.errors import UserError
from convmixer_jax.json_text import parse_json
from convmixer_jax.locks.directory_lock import is_of_lock
from convmixer_jax.versions import package_versions

_CONFIG, _VERSIONS, _LABELS = 'config.json', 'versions.json', 'labels.json'
_DATA = 'data.json'
_IN_ALL_CONFIGS = {  # those of converted weights have only a few more
  'augment.eval_crop_fraction',
  'dataset.image_size',
  'dtype',
  'model.name',
}
# What is read of a run, of whichever version: its values are checked.
_READ_KEYS = (
  *('augment.eval_crop_fraction', 'augment.eval_image_size'),
  *('augment.eval_interpolation', 'ema_decay', 'ema_evaluate'),
  *('dataset.data_dir', 'dataset.eval_split'),
  *('dataset.image_size', 'dataset.mean', 'dataset.name', 'dataset.std'),
  *('dtype', 'checkpoint_every_steps'),
)
_MISSING = 'missing'  # in an error, of a key


def check_workdir(
  workdir: epath.Path, config: ml_collections.ConfigDict
) -> ml_collections.ConfigDict | None:
  """Checks that `workdir` is new or holds a run of the same experiment.

  Returns:
    The config that the run in it was last started with; None if it is new.

  Raises:
    UserError: its bucket cannot be written to; or it holds something else, or a
      run whose network, data or recipe differs; then the differing keys are
      named.
  """
  check_access(workdir, writes=True)
  if workdir.exists() and not workdir.is_dir():
    raise UserError(f'--workdir={workdir} is a file; give a directory')
  if not workdir.exists():
    return None
  # A process killed at its start may have left the first file incomplete.
  names = {path.name for path in workdir.iterdir()}
  if {name for name in names if not _is_temporary(name)} <= {
    _CONFIG + files.PARTIAL
  }:
    return None
  if not (workdir / _CONFIG).exists():
    raise UserError(
      f'--workdir={workdir} is not empty and not a run directory (no '
      f'{_CONFIG}); give a new or an empty directory'
    )
  recorded = read_config(workdir)
  old = flatten(recorded)
  new = flatten(config_from_json(config_to_json(config)))
  free = set(models.free_keys(config.model))
  if (workdir / _DATA).exists():  # which data it is, by whatever name
    free.add('dataset.name')
  if changed := changed_keys(old, new, free):
    differences = ', '.join(
      f'{key} ({old.get(key, _MISSING)} -> {new.get(key, _MISSING)})'
      for key in changed
    )
    raise UserError(
      f'--workdir={workdir} holds a run with another config: {differences}; '
      'give the old values or a new --workdir'
    )
  return recorded


def check_data(workdir: epath.Path, data: identity.Identity) -> bool:
  """Checks that a run in `workdir`, if there is one, was started on this data.

  Args:
    workdir: of the run.
    data: what it would read now.

  Returns:
    Whether the run recorded its data.

  Raises:
    UserError: the data differs; the message says in what.
  """
  recorded = read_data(workdir)
  names = read_class_names(workdir)
  known = dict(data if recorded is None else recorded)
  if names is not None:
    known['class_names'] = list(names)
  if changed := identity.differences(known, data):
    accept = ''
    if known['class_names'] == data['class_names']:
      accept = (
        f'; if only damaged images were replaced, remove {_DATA} from it and '
        'start again'
      )
    raise UserError(
      f'--workdir={workdir} holds a run on other data; changed: '
      f'{", ".join(changed)}; give the data it was started on '
      '(config.dataset.data_dir, or NAME:VERSION as config.dataset.name) or a '
      f'new --workdir{accept}'
    )
  return recorded is not None


def read_data(workdir: epath.Path) -> identity.Identity | None:
  """Returns the identity of a run's data, None if it was not recorded.

  Raises:
    UserError: the file is damaged.
  """
  path = workdir / _DATA
  if not path.exists():
    return None
  try:
    return identity.check(parse_json(path.read_text()))
  except ValueError as error:
    raise UserError(
      f'{path} does not describe the data of a run ({error}); restore the one '
      'that train.py wrote, or remove it'
    ) from error


def read_config(workdir: epath.Path) -> ml_collections.ConfigDict:
  """Returns the config that a run was started with.

  Raises:
    UserError: `workdir` has no config of a run.
  """
  path = workdir / _CONFIG
  if not path.exists():
    raise UserError(
      f'{workdir} is not a run directory (it has no {_CONFIG}); give one that '
      'train.py wrote'
    )
  try:
    config = config_from_json(path.read_text())
    if not isinstance(config.get('model'), ml_collections.ConfigDict):
      raise ValueError('it has no model')
    if missing := _IN_ALL_CONFIGS - flatten(config).keys():
      raise ValueError(f'it has no {", ".join(sorted(missing))}')
    is_converted = config.get('dataset', {}).get('name') == ''
    unknown = {'dataset.name'} if is_converted else set()
    check_known(config, [key for key in _READ_KEYS if key not in unknown])
    _check_test_input(config)
  except (OSError, ValueError, AttributeError, TypeError) as error:
    raise UserError(
      f'{path} is not a config of a run ({error}); give another directory'
    ) from error
  return config


def _check_test_input(config):
  """Checks size and crop of a test, which only converted weights may have."""
  test_input = config.augment.get('test_input')
  if test_input is not None:
    size, crop_fraction = test_input
    values = {
      'augment': {'eval_crop_fraction': crop_fraction},
      'dataset': {'image_size': size},
    }
    names = 'augment.eval_crop_fraction', 'dataset.image_size'
    check_known(ml_collections.ConfigDict(values), names)


def read_class_names(workdir: epath.Path) -> tuple[str, ...] | None:
  """Returns the names of the classes, None if the run does not have them."""
  path = workdir / _LABELS
  if not path.exists():
    return None
  try:
    names = parse_json(path.read_text())
    if not isinstance(names, list) or not all(
      isinstance(name, str) for name in names
    ):
      raise ValueError('it has other values')
    return tuple(names)
  except (OSError, ValueError) as error:
    raise UserError(
      f'{path} is not a list of names ({error}); restore the one that train.py '
      'wrote, or remove it'
    ) from error


def describe_run(
  workdir: epath.Path,
  config: ml_collections.ConfigDict,
  class_names: Sequence[str] | None,
  overview: str,
  data: identity.Identity | None = None,
) -> None:
  """Writes config, versions, labels and table of parameters into `workdir`.

  What an earlier start wrote of classes and data stays as it is.

  Args:
    workdir: which need not exist.
    config: the whole config.
    class_names: None if unknown.
    overview: the table of parameters.
    data: identity of the data, None if unknown.

  Raises:
    UserError: `workdir` cannot be written to.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise _cannot_be_written_to(workdir, error) from error
  write_whole(workdir / _CONFIG, config_to_json(config) + '\n')
  write_whole(
    workdir / _VERSIONS, json.dumps(package_versions(), indent=2) + '\n'
  )
  for name, content in ((_LABELS, class_names), (_DATA, data)):
    if content is not None and not (workdir / name).exists():
      write_whole(workdir / name, json.dumps(content, indent=2) + '\n')
  write_whole(workdir / 'parameters.txt', overview + '\n')


def write_whole(path: epath.Path, content: str | bytes) -> None:
  """Writes a file of a run, which is never left incomplete (see `files`).

  Raises:
    UserError: it cannot be written.
  """
  try:
    files.write(path, content)
  except OSError as error:
    raise _cannot_be_written_to(path.parent, error) from error


def _is_temporary(name):
  return is_access_check(name) or is_of_lock(name)


def _cannot_be_written_to(workdir, error):
  return UserError(
    f'--workdir={workdir} cannot be written to ({error.strerror or error}); '
    'make room or give another directory'
  )


def config_to_json(config: ml_collections.ConfigDict) -> str:
  """Returns what config.json has of a config."""
  return config.to_json_best_effort(indent=2, sort_keys=False)


def config_from_json(text: str) -> ml_collections.ConfigDict:
  """Returns the config of the text of a config.json; lists become tuples."""

  def with_tuples(value):  # JSON has lists only
    if isinstance(value, dict):
      return {key: with_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
      return tuple(with_tuples(item) for item in value)
    return value

  return ml_collections.ConfigDict(with_tuples(parse_json(text)))
