"""Uploads to a server that answers as the hub does, and what they contain."""

import json

import huggingface_hub
import numpy as np
import pytest
import yaml
from absl import flags
from absl.testing import flagsaver
from fake_hub import fake_hub
from huggingface_hub import constants

from convmixer_jax.cli import push
from convmixer_jax.errors import UserError
from convmixer_jax.pretrained import hub_folder, hub_upload, weight_files
from convmixer_jax.pretrained.load import load

flags.FLAGS.mark_as_parsed()
# Of the hub's library, which passes a file to its client by an old name.
pytestmark = pytest.mark.filterwarnings(
  'ignore:Use .content=:DeprecationWarning'
)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
FILES = {'model.safetensors', 'config.json', 'README.md'}


@pytest.fixture
def hub(monkeypatch, tmp_path):
  with fake_hub(monkeypatch, str(tmp_path / 'cache')) as hub:
    yield hub


def run(*arguments, **values):
  with flagsaver.flagsaver(**values):
    push.main(['push', *map(str, arguments)])


def test_uploaded_network_is_loaded_with_the_same_logits(
  hub, trained_run, capsys
):
  run(trained_run, 'me/digits', license='mit')
  assert hub.files['me/digits'].keys() == FILES
  assert len(hub.commits) == 1 and not hub.private
  first, note, page, *_ = capsys.readouterr().out.splitlines()
  assert first.startswith(f'Loaded {trained_run}, step ')
  assert 'timm has no name for a model of this size' in note
  assert page == f'Uploaded to {hub.address}/me/digits:'

  trained = load(str(trained_run))
  loaded = load('hf://me/digits')
  np.testing.assert_array_equal(loaded.logits(IMAGES), trained.logits(IMAGES))
  for name in ('fields', 'class_names', 'mean', 'std', 'data'):
    if name == 'fields':
      assert loaded.network_fields() == trained.network_fields()
    else:
      assert getattr(loaded, name) == getattr(trained, name)
  assert loaded.assumed == frozenset()


def test_card_has_the_metrics_and_the_license(hub, trained_run):
  run(trained_run, 'me/digits', license='mit')
  card = hub.files['me/digits']['README.md'].decode()
  _, metadata, text = card.split('---\n', 2)
  data = yaml.safe_load(metadata)
  assert (data['license'], data['library_name']) == ('mit', 'timm')
  assert {'image-classification', 'jax', 'convmixer'} <= set(data['tags'])
  trained = load(str(trained_run))
  (result,) = data['model-index'][0]['results']
  assert result['dataset']['name'] == 'digits'
  values = {m['type']: m['value'] for m in result['metrics']}
  accuracy = trained.metrics['eval_accuracy']
  assert values['accuracy'] == pytest.approx(accuracy, abs=1e-6)
  assert f'{100 * accuracy:.2f} %' in text
  assert "convmixer_jax.load('hf://me/digits')" in text
  assert str(trained_run) not in card  # a place on the user's machine


def test_card_without_a_license_states_none(trained_run):
  card = hub_folder.make_files(load(str(trained_run)), 'me/x')['README.md']
  assert 'license' not in yaml.safe_load(card.decode().split('---\n')[1])


def test_second_upload_replaces_the_weights_and_keeps_the_card(
  hub, trained_run, capsys
):
  run(trained_run, 'me/digits')
  hub.files['me/digits']['README.md'] = b'written by its owner'
  run(f'{trained_run}@16', 'hf://me/digits')
  assert hub.files['me/digits']['README.md'] == b'written by its owner'
  assert 'Its README.md was kept as it is' in capsys.readouterr().out
  first = load(f'{trained_run}@16')
  np.testing.assert_array_equal(
    load('hf://me/digits').logits(IMAGES), first.logits(IMAGES)
  )


def test_private_repository_is_private(hub, trained_run):
  run(trained_run, 'me/digits', private=True)
  assert hub.private == {'me/digits'}


def test_public_repository_is_refused_for_what_should_be_private(
  hub, trained_run
):
  hub.files['me/digits'] = {}
  with pytest.raises(UserError, match='exists and is public; make it private'):
    run(trained_run, 'me/digits', private=True)
  assert hub.files['me/digits'] == {} and not hub.commits


def test_output_has_the_same_files_and_nothing_is_uploaded(
  hub, trained_run, tmp_path, capsys
):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'notes.txt').touch()
  run(trained_run, 'me/digits', output=str(tmp_path / 'out'))
  assert hub.requests == []
  assert 'not written by this command: notes.txt' in capsys.readouterr().out
  written = {p.name: p.read_bytes() for p in (tmp_path / 'out').iterdir()}
  del written['notes.txt']
  assert written.keys() == FILES
  trained = load(str(trained_run))
  np.testing.assert_array_equal(
    load(tmp_path / 'out').logits(IMAGES), trained.logits(IMAGES)
  )
  run(trained_run, 'me/digits')
  assert hub.files['me/digits'] == written


def test_empty_output_is_refused_and_nothing_is_uploaded(hub, trained_run):
  with pytest.raises(UserError, match='name of a directory is empty'):
    run(trained_run, 'me/digits', output='')
  assert hub.requests == []


def test_dry_run_shows_the_card_and_uploads_nothing(hub, trained_run, capsys):
  run(trained_run, 'me/digits', dry_run=True)
  assert hub.requests == []
  shown = capsys.readouterr().out
  assert 'Would be uploaded to hf://me/digits' in shown and '# digits' in shown


@pytest.mark.parametrize(
  ('refused', 'message'),
  [
    ({'/api/repos/create': 401}, 'status 401: .*the token is not accepted'),
    ({'/api/repos/create': 403}, 'status 403: .*token may not write there'),
    ({'/api/models/me/digits/commit': 403}, 'status 403'),
    ({'/me/digits.git/info/lfs': 400}, 'status 400'),
  ],
)
def test_refusals_of_the_hub_are_one_line(hub, trained_run, refused, message):
  hub.refused = refused
  with pytest.raises(UserError, match=message) as caught:
    run(trained_run, 'me/digits')
  assert '\n' not in str(caught.value)
  assert str(caught.value).startswith('hf://me/digits cannot be written')
  assert not hub.files.get('me/digits')  # no file of an incomplete upload


def test_unreachable_hub_is_reported_in_one_line(hub, trained_run, monkeypatch):
  monkeypatch.setattr(constants, 'ENDPOINT', 'http://localhost:9')
  with pytest.raises(UserError, match='the hub cannot be reached') as caught:
    run(trained_run, 'me/digits')
  assert '\n' not in str(caught.value)


def test_missing_token_is_reported_before_anything_is_read(monkeypatch):
  monkeypatch.setattr(huggingface_hub, 'get_token', lambda: None)
  with pytest.raises(UserError, match=r'needs a token .* `hf auth login`'):
    run('/nowhere', 'me/digits')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('digits', "'digits' is not a repository of the hub; give OWNER/NAME"),
    ('a/b/c', 'is not a repository of the hub'),
    ('me/', 'is not a repository of the hub'),
    ('me/a b', 'the hub does not take the name'),
    ('me/a--b', 'the hub does not take the name'),
  ],
)
def test_malformed_name_is_refused(name, message):
  with pytest.raises(UserError, match=message) as caught:
    hub_upload.parse_repository(name)
  assert '\n' not in str(caught.value)


def test_network_without_names_in_files_is_refused(trained_run, monkeypatch):
  trained = load(str(trained_run))
  for module in (hub_folder, weight_files):
    found = module.find_architecture(trained.network)
    monkeypatch.setattr(
      module,
      'find_architecture',
      lambda _, found=found: found._replace(state_dict=None),
    )
  with pytest.raises(UserError, match='has no state_dict, so its weights'):
    hub_folder.make_files(trained, 'me/x')


def test_config_of_a_network_with_a_name_in_timm_creates_it(trained_run):
  trained = load(str(trained_run))
  found = hub_folder.find_timm_model(trained)
  config = hub_folder.timm_config(
    trained, found._replace(architecture='convmixer_768_32')
  )
  assert config['architecture'] == 'convmixer_768_32'
  assert json.loads(json.dumps(config)) == config
  assert config['label_names'] == list('0123456789')
  inputs = config['pretrained_cfg']
  assert inputs['input_size'] == [3, 8, 8] and inputs['crop_pct'] == 1.0
