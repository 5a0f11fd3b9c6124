"""What a run starts from, and what its backbone and head learn."""

import shutil

import jax
import numpy as np
import pytest
from run_files import read_state
from trained_models import trained_model

import convmixer_jax
from convmixer_jax.cli import convert
from convmixer_jax.data.class_names import imagenet_synsets, readable
from convmixer_jax.errors import UserError
from convmixer_jax.models import create_model
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import initialize, loop


@pytest.fixture
def config(config):
  config.num_steps = 3
  config.model.width = 16
  return config


@pytest.fixture(scope='module')
def run(trained_run):
  """The directory of a run, and the state at its best step."""
  metrics = convmixer_jax.load_run(trained_run).metrics
  accuracies = {
    row['step']: row['eval_accuracy'] for row in metrics if 'eval_loss' in row
  }
  best = max(accuracies, key=lambda step: (accuracies[step], step))
  return str(trained_run), best, read_state(trained_run, best)


def start_of(config, class_names=tuple('0123456789')):
  return initialize.load_pretrained(
    config, create_model(config.model, len(class_names)), class_names
  )


def assert_identical(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_weights_of_a_run_are_loaded_with_their_metadata(run):
  path, best, _ = run
  for source, step in ((path, best), (f'{path}/checkpoints/25', 25)):
    loaded = load(source)
    assert loaded.network_fields() == {
      'width': 16,
      'depth': 2,
      'patch_size': 1,
      'kernel_size': 3,
      'activation': 'gelu',
    }
    assert (loaded.num_classes, loaded.image_size) == (10, 8)
    assert (loaded.mean, loaded.eval_crop_fraction) == ((0.5, 0.5, 0.5), 1.0)
    assert loaded.class_names == tuple('0123456789')
    state = read_state(path, step)
    for name in ('params', 'batch_stats'):
      assert_identical(loaded.variables[name], state[name])
  with pytest.raises(
    UserError, match='whose config names its network; leave out --model=g'
  ):
    load(path, 'gelu')
  with pytest.raises(UserError, match='has no checkpoint of step 2; it has th'):
    load(f'{path}/checkpoints/2')


def test_run_converted_to_timm_and_back_is_identical(run, tmp_path, capsys):
  path, _, state = run
  file, directory = tmp_path / 'weights.safetensors', tmp_path / 'again'
  convert.convert(path, str(file))
  convert.convert(str(file), str(directory))
  network = 'width 16, depth 2, patch_size 1, kernel_size 3, activation gelu'
  first, *lines = capsys.readouterr().out.splitlines()
  assert first.startswith(f'Loaded {path}, step ') and '(best)' in first
  assert lines == [
    f'{file}: {network}, 10 classes',
    f'Loaded {file}: ConvMixer-16/2',
    f'{directory}: {network}, 10 classes',
  ]
  by_orbax = read_state(directory, 0)
  for name in ('params', 'batch_stats'):
    assert_identical(by_orbax[name], state[name])
  first, last = map(load, (path, str(directory)))
  assert first.network_fields() == last.network_fields()
  for key in ('num_classes', 'mean', 'std', 'image_size', 'class_names'):
    assert getattr(first, key) == getattr(last, key)
  written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  for dest in (file, directory):
    with pytest.raises(UserError, match='is there already; remove it'):
      convert.convert(path, str(dest))
  with pytest.raises(UserError, match=r'only FILE\.safetensors or a directory'):
    convert.convert(path, str(tmp_path / 'x.pth.tar'))
  with pytest.raises(UserError, match=r'no file or .*/nothing; give a run'):
    convert.convert(str(tmp_path / 'nothing'), str(tmp_path / 'x'))
  with pytest.raises(UserError, match='1 arguments are given, not SOURCE and'):
    convert.main(['convert', path])
  assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')} == written


def test_published_values_are_written_where_weights_contain_none(
  run, tmp_path, caplog
):
  loaded = load(run[0])
  file, directory = tmp_path / 'x.safetensors', tmp_path / 'run'
  bare = trained_model(loaded.model, loaded.variables)
  weight_files.save(bare, str(file))
  convert.convert(str(file), str(directory))
  assert caplog.text.count('assumed are eval_crop_fraction 0.96') == 1
  assert (
    'does not contain eval_crop_fraction, eval_interpolation, image_size, '
    'mean, std of its images' in caplog.text
  )
  again = load(str(directory))
  assert (again.image_size, again.mean) == (224, (0.485, 0.456, 0.406))
  assert again.class_names is None


@pytest.mark.slow
def test_run_starts_from_weights_and_resumes_from_its_checkpoint(
  run, config, tmp_path, capsys
):
  path, best, state = run
  config.init_from = path
  config.learning_rate = 0.0
  config.weight_decay = 0.0
  loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert f'Starting from {path}, step {best} (best); with its head' in (
    capsys.readouterr().out
  )
  now = read_state(tmp_path / 'run', 3)
  assert_identical(now['params'], state['params'])

  # Once there is a checkpoint, the run resumes from it.
  config.num_steps = 4
  with pytest.raises(UserError, match='another config: init_from'):
    config.init_from = '/gone'
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
  config.init_from = path
  loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert 'Starting from' not in capsys.readouterr().out


def test_head_is_reinitialised_for_other_classes(run, config, capsys):
  config.init_from = run[0]
  assert 'head' in start_of(config)['params']
  assert 'head' not in start_of(config, ('ant', 'bee', 'cat'))['params']
  assert (
    'the head is initialised from random numbers (10 classes there, 3 here)'
    in (capsys.readouterr().out)
  )
  config.new_head = True
  config.dataset.mean = (0.1, 0.5, 0.5)
  start = start_of(config)
  assert start['params'].keys() == {'patch_embedding', 'patch_bn', 'blocks'}
  printed = capsys.readouterr().out
  assert 'from random numbers (config.new_head = True)' in printed
  assert 'Note: its images had mean (0.5, 0.5, 0.5)' in printed


def named(loaded, class_names, path):
  """Writes a network's weights with other names of classes."""
  known = {'class_names': class_names}
  weight_files.save(
    trained_model(loaded.model, loaded.variables, **known), str(path)
  )
  return str(path)


def test_rows_of_the_head_follow_the_names_of_classes(
  run, config, tmp_path, capsys
):
  loaded = load(run[0])
  names = tuple('abcdefghij')
  config.init_from = named(loaded, names, tmp_path / 'x.safetensors')
  start = start_of(config, names[::-1])['params']
  assert 'in the order of the classes here' in capsys.readouterr().out
  head = loaded.variables['params']['head']
  assert_identical(
    start['head'], jax.tree.map(lambda array: array[..., ::-1], head)
  )
  start = start_of(config, names)['params']
  assert capsys.readouterr().out.splitlines()[0].endswith('; with its head')
  assert_identical(start['head'], head)


def test_head_of_as_many_other_classes_is_reinitialised(
  run, config, tmp_path, capsys
):
  names = tuple('abcdefghij')
  config.init_from = named(load(run[0]), names, tmp_path / 'x.safetensors')
  assert 'head' not in start_of(config, (*names[:9], 'yak'))['params']
  assert "other classes: 'yak' is not there" in capsys.readouterr().out
  assert 'head' in start_of(config, tuple('0123456789'))['params']
  assert 'it cannot be checked that they are' in capsys.readouterr().out


def test_head_of_another_set_without_names_is_reinitialised(
  run, config, capsys
):
  config.init_from = run[0]
  config.dataset.name = 'cifar10/small:3.0.2'
  assert 'head' not in start_of(config)['params']
  assert 'it has the classes of digits, not all of which have names' in (
    capsys.readouterr().out
  )


def test_rows_of_the_head_follow_numbers_that_are_names_of_classes(
  run, config, tmp_path
):
  """Folders called 1 to 10 are in the order 1, 10, 2."""
  loaded = load(run[0])
  numbers = tuple(map(str, range(10)))
  names = tuple(reversed(numbers))
  config.init_from = named(loaded, names, tmp_path / 'x.safetensors')
  start = start_of(config, numbers)['params']
  head = loaded.variables['params']['head']
  assert_identical(
    start['head'], jax.tree.map(lambda array: array[..., ::-1], head)
  )


def test_class_that_words_lack_is_named(run, config, tmp_path, capsys):
  ids = imagenet_synsets()[:10]
  words = (*readable(ids)[:9], 'yak')
  config.init_from = named(load(run[0]), words, tmp_path / 'x.safetensors')
  assert 'head' not in start_of(config, ids)['params']
  assert f'{readable(ids)[9]!r} is not there' in capsys.readouterr().out


def test_note_says_that_weights_lack_mean_and_std(
  run, config, tmp_path, capsys
):
  loaded, path = load(run[0]), str(tmp_path / 'bare.safetensors')
  weight_files.save(trained_model(loaded.model, loaded.variables), path)
  config.init_from = path
  start_of(config)
  printed = capsys.readouterr().out
  for key, value in {'mean': (0.5,) * 3, 'std': (0.25,) * 3}.items():
    assert (
      f'Note: it does not contain the {key} of its images; config.dataset has '
      f'{value}' in printed
    )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'model.patch_size': 2, 'model.activation': 'relu'},
      r'another network: config.model.patch_size = 2 \(there 1\), config.model.'
      r"activation = 'relu' \(there 'gelu'\); give --config.model.patch_size=1 "
      r'--config.model.activation=gelu$',
    ),
    ({'model.kernel_size': 5}, r'kernel_size = 5 \(there 3\)'),
    ({'init_from': '/nowhere'}, 'there is no file or directory /nowhere'),
  ],
)
def test_weights_of_another_network_are_refused_before_anything_is_written(
  run, config, tmp_path, changes, message
):
  config.init_from = run[0]
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_frozen_backbone_stays_unchanged_bit_for_bit(run, config, tmp_path):
  path, _, state = run
  config.init_from, config.new_head = path, True
  config.backbone_lr_scale, config.decay_all, config.accum_steps = 0.0, True, 2
  loop.train_and_evaluate(config, str(tmp_path / 'run'))
  now = read_state(tmp_path / 'run', 3)
  assert_identical(now['batch_stats'], state['batch_stats'])
  for name in ('patch_embedding', 'patch_bn', 'blocks'):
    assert_identical(now['params'][name], state['params'][name])
  assert np.abs(now['params']['head']['kernel']).max() > 0


@pytest.mark.slow
def test_run_with_slower_backbone_resumes_bit_for_bit(run, config, tmp_path):
  config.init_from, config.backbone_lr_scale = run[0], 0.1
  config.num_steps, config.checkpoint_every_steps = 4, 2
  whole, pieces = tmp_path / 'whole', tmp_path / 'pieces'
  loop.train_and_evaluate(config, str(whole))
  shutil.copytree(whole, pieces)
  shutil.rmtree(pieces / 'checkpoints' / '4')
  loop.train_and_evaluate(config, str(pieces))
  assert_identical(read_state(pieces, 4), read_state(whole, 4))
