"""What a run says when it resumes with another length."""

import pytest

from convmixer_jax.config import SCHEMA
from convmixer_jax.errors import UserError
from convmixer_jax.training.changes import describe_changes, require_not_shorter


def describe(config, step=110, steps_per_epoch=11, **changes):
  new = config.copy_and_resolve_references()
  new.update(changes)
  return describe_changes(config, new, step, steps_per_epoch)


@pytest.fixture
def config(config):
  config.num_steps, config.num_epochs = 0, 20
  return config


@pytest.mark.parametrize('schedule', ['triangular', 'cosine'])
def test_longer_run_says_from_which_step_on_the_learning_rate_is_another(
  config, schedule
):
  config.schedule = schedule
  line = describe(config, num_epochs=40)
  assert line.startswith(
    'The run has 440 steps now, not 220 (config.num_epochs 20 -> 40): from '
    'step 111 on the learning rate is that of a run of 440 steps, at first '
  )
  assert '\n' not in line


def test_run_extended_at_its_end_says_so(config):
  line = describe(config, step=220, num_epochs=40)
  assert 'from step 221 on the learning rate is that of a run of 440' in line


def test_length_in_steps_instead_of_epochs_is_compared_by_its_schedule(config):
  line = describe(config, num_steps=230)
  assert '(config.num_steps 0 -> 230)' in line
  config.schedule = 'cosine'
  assert describe(config, num_steps=220) is None


def test_constant_learning_rate_does_not_change(config):
  config.schedule = 'constant'
  assert describe(config, num_epochs=40) is None
  assert describe(config, step=220, num_epochs=40) is None


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'num_epochs': 5},
      'the run in RUN is at step 110, and config.num_epochs = 5 would end it '
      'at step 55; give at least 10, or a new --workdir',
    ),
    (
      {'num_steps': 100},
      'the run in RUN is at step 110, and config.num_steps = 100 would end it '
      'at step 100; give at least 110, or a new --workdir',
    ),
  ],
)
def test_length_below_the_steps_made_is_refused(config, changes, message):
  config.update(changes)
  with pytest.raises(UserError) as error:
    require_not_shorter('RUN', 110, config, 11)
  assert str(error.value) == message


def test_length_of_the_steps_made_is_accepted(config):
  require_not_shorter('RUN', 220, config, 11)
  assert describe(config, num_epochs=10) is None


def test_same_length_says_nothing(config):
  assert describe(config, log_every_steps=7) is None


def test_only_free_keys_change_something_that_is_said():
  keys = [key for key in SCHEMA.values() if key.changes]
  assert {key.name for key in keys} == {'num_epochs', 'num_steps'}
  assert all(key.is_free for key in keys)


def test_key_that_an_earlier_version_did_not_record_has_its_default(config):
  recorded = config.copy_and_resolve_references()
  del recorded.num_steps
  config.num_steps = 440
  line = describe_changes(recorded, config, 110, 11)
  assert line.startswith('The run has 440 steps now, not 220 (config.num_steps')
