"""The runs that a grid describes, and their names."""

import re

import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import Choice, Grid
from convmixer_jax.sweeps.grid import expand, run_name, trial_name

STEMS = {'patch2': {'model.patch_size': 2}, 'patch4': {'model.patch_size': 4}}


def names(*grids):
  return [row.name for row in expand(grids)]


def test_rows_are_the_product_of_the_axes_in_order():
  grid = Grid('digits', {'stem': STEMS, 'model.width': [8, 16]})
  rows = expand([grid])
  assert [row.name for row in rows] == [
    *('patch2-width8', 'patch2-width16', 'patch4-width8', 'patch4-width16'),
  ]
  assert rows[1].overrides == {'model.patch_size': 2, 'model.width': 16}
  assert run_name(rows[0], 3) == 'patch2-width8-seed3'


def test_values_of_a_key_may_have_names():
  (first, _) = expand(
    [Grid('digits', {'optimizer': {'adam': 'adamw', 'sgd': 'sgd'}})]
  )
  assert (first.name, first.overrides) == ('adam', {'optimizer': 'adamw'})


def test_later_settings_win():
  grid = Grid(
    'digits',
    {'stem': STEMS, 'model.width': [8]},
    overrides={'model.patch_size': 7, 'seed': 5},
    special=[({'stem': 'patch4'}, {'model.width': 9})],
  )
  first, second = expand([grid])
  assert first.overrides['model.patch_size'] == 2
  assert (first.overrides['model.width'], second.overrides['model.width']) == (
    *(8, 9),
  )


def test_skip_takes_names_values_and_lists():
  grid = Grid(
    'digits',
    {'stem': STEMS, 'model.width': [8, 16, 32]},
    skip=[{'stem': 'patch2', 'model.width': [8, 16]}, {'model.width': 32}],
  )
  assert names(grid) == ['patch4-width8', 'patch4-width16']


def test_grids_have_names_of_their_own():
  grids = Grid('digits', name='a'), Grid('cifar10', name='b')
  assert names(*grids) == ['a', 'b']
  assert names(Grid('imagenet:768_32')) == ['imagenet-768_32']


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([0.003, 1e-5], ['width0.003', 'width1e-05']),
    ([(1, 2), True], ['width1x2', 'widthtrue']),
    (['a/b', None], ['widtha_b', 'widthnone']),
  ],
)
def test_values_become_names_of_directories(values, expected):
  assert names(Grid('digits', {'model.width': values})) == expected


def test_trials_are_named_after_their_value():
  choice = Choice('learning_rate', [0.01, 0.1], {})
  (row,) = expand([Grid('digits', choose=choice)])
  assert trial_name(row, 0.1, 0) == 'digits-learning_rate0.1-seed0'


@pytest.mark.parametrize(
  ('grids', 'message'),
  [
    ([], 'has no runs'),
    (['digits'], 'returns a str'),
    ([Grid('digits', {'a': 'bc'})], "axis 'a' is 'bc'"),
    ([Grid('digits', {'a': []})], "axis 'a' has no options"),
    ([Grid('digits', {'a': [{'seed': 1}]})], 'overrides in a list'),
    ([Grid('digits', {'a': {'b/c': {}}})], "option 'b/c'"),
    ([Grid('digits', {'a': {'..': {}}})], "option '..'"),
    ([Grid('digits', name='x y')], "grid 'x y'"),
    ([Grid('digits', seeds=())], 'seeds'),
    ([Grid('digits', seeds=(1, 1))], 'seeds'),
    ([Grid('digits', seeds=(True,))], 'seeds'),
    ([Grid('digits'), Grid('digits')], "'digits' and 'digits'"),
    ([Grid('digits', {'a': {'x': {}, 'X': {}}})], "'x' and 'X'"),
    ([Grid('digits', name='trials')], "'trials' cannot be"),
    ([Grid('digits', name='x' * 201)], 'cannot be the name'),
    ([Grid('digits', {'a': [1]}, skip=[{'b': 1}])], "axis 'b'"),
    ([Grid('digits', {'a': [1]}, skip=[{'a': 2}])], 'names 2 of'),
    ([Grid('digits', seeds=3)], 'the seeds 3; give a list'),
    ([Grid('digits', axes=['a'])], "axes of a grid of the sweep: ['a']"),
    ([Grid('digits', axes={3: [1]})], '3 is not a key'),
    ([Grid('digits', axes={'seed': [1]})], "has an axis 'seed'"),
    ([Grid('digits', overrides=None)], 'None is not a dict'),
    ([Grid('digits', name=3)], 'the grid 3'),
    ([Grid(None)], 'config=None'),
    ([Grid('digits', skip={'a': 1})], "skip={'a': 1}; give a list"),
    ([Grid('digits', special=[({},)])], 'give a list of pairs'),
    ([Grid('digits', choose={'key': 'x'})], 'a convmixer_jax.sweeps.Choice'),
    ([Grid('digits', choose=Choice('seed', [1], {}))], 'seeds are not chosen'),
    ([Grid('digits', choose=Choice('a', [], {}))], "choice of 'a' is among []"),
    ([Grid('digits', choose=Choice('a', 0.1, {}))], 'is among 0.1'),
    ([Grid('digits', choose=Choice('a', [1, 1], {}))], 'values that differ'),
    ([Grid('digits', choose=Choice('a', [1], None))], 'None is not a dict'),
  ],
)
def test_wrong_grids_are_refused_in_one_line(grids, message):
  with pytest.raises(UserError, match=re.escape(message)) as caught:
    expand(grids)
  assert '\n' not in str(caught.value)


def test_values_of_numpy_become_plain():
  rates = np.array([0.01, 0.1])
  (row, _) = expand(
    [
      Grid(
        'digits',
        axes={'learning_rate': rates, 'model.width': list(np.arange(8, 9))},
        overrides={'label_smoothing': rates[1]},
        seeds=np.arange(2),
        choose=Choice('weight_decay', rates, {}),
      )
    ]
  )
  assert row.name == 'learning_rate0.01-width8'
  values = [*row.overrides.values(), *row.seeds, *row.choose.values]
  assert [type(value) for value in values] == [
    *(float, float, int, int, int, float, float)
  ]
