"""Which batch sizes are refused, and what would do instead."""

import pytest

from configs import default, imagenet
from convmixer_jax import models
from convmixer_jax.errors import UserError
from convmixer_jax.models.fields import Field
from convmixer_jax.training import batch_size, loop
from convmixer_jax.training.batch_size import check_batch_size


@pytest.mark.parametrize(
  ('changes', 'num_devices', 'message'),
  [
    (
      {'batch_size': 100},
      8,
      '100 does not divide over 8 devices.*: 96 and 104',
    ),
    (
      {'batch_size': 12, 'accum_steps': 4},
      2,
      '12 does not .* 4 accumulation steps.*: 8 and 16',
    ),
    ({'batch_size': 4}, 8, '4 does not divide over 8 devices.*do: 8$'),
    (
      {'batch_size': 96, 'mixup.mixup_alpha': 0.5, 'mixup.group_size': 64},
      8,
      'mixup groups of 64.*: 64 and 128',
    ),
    (
      {'batch_size': 64, 'model.bn_group_size': 64, 'accum_steps': 2},
      1,
      'BatchNorm groups of 64.*do: 128',
    ),
  ],
)
def test_indivisible_batch_is_refused_with_the_nearest_sizes(
  changes, num_devices, message
):
  config = default.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    check_batch_size(config, num_devices)


def test_divisible_batch_is_accepted():
  config = imagenet.get_config()
  check_batch_size(config, 10)
  config.accum_steps = 2
  check_batch_size(config, 5)


def test_two_fields_with_groups_of_the_same_name_both_count(monkeypatch):
  groups = Field(0, 'images of a group', minimum=0, groups='groups')
  network = models.MODELS['convmixer']._replace(
    fields={'first': groups, 'second': groups}
  )
  monkeypatch.setattr(batch_size, 'find_architecture', lambda name: network)
  config = default.get_config()
  config.batch_size = 8
  config.model = {'name': 'convmixer', 'first': 3, 'second': 4}
  with pytest.raises(UserError, match=r'groups of 3, groups of 4;.*: 12$'):
    check_batch_size(config, 1)


@pytest.mark.parametrize(
  'changes',
  [
    {'batch_size': 1},
    {'batch_size': 8, 'accum_steps': 8},
    {'batch_size': 8, 'model.bn_group_size': 1},
  ],
)
def test_one_value_per_channel_is_refused_before_anything_is_written(
  changes, tmp_path
):
  config = default.get_config()
  config.model.width, config.model.depth = 8, 1
  config.model.patch_size = 8  # a grid of 1 x 1
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match='a single value per channel'):
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
