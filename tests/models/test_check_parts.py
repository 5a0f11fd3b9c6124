"""Which parts of an `Architecture` of one's own are refused, and why."""

import pytest
from wrong_networks import WIDTH, Base

from convmixer_jax.models import MODELS
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.check_parts import find_problem


def test_networks_of_the_package_have_no_problem():
  for architecture in (*MODELS.values(), Architecture(Base, WIDTH)):
    assert find_problem(architecture) is None


@pytest.mark.parametrize(
  ('part', 'value', 'problem'),
  [
    ('inference', 3, 'its inference is 3; give a function or None'),
    ('pictures', 3, 'its pictures is 3; give a function or None'),
    ('resize', 3, 'its resize is 3; give a function or None'),
    ('to_onnx', 3, 'its to_onnx is 3; give a function or None'),
    ('state_dict', 3, 'its state_dict is 3; give a StateDictMap or None'),
    ('variants', 3, 'its variants is 3; give a dict of dicts'),
    ('variants', {'a': 3}, "its variants is {'a': 3}; give a dict of dicts"),
    (
      'variants',
      {'a': {'depth': 3}},
      "variants['a'] has 'depth', which is not among its fields; leave it out",
    ),
    ('portable', 3, 'its portable is 3; give a dict of dicts'),
    (
      'portable',
      {'cpu': {}},
      "its portable has no 'default'; add it, such as ",
    ),
    ('released', 3, 'its released is 3; give a dict of Released'),
    (
      'default_input',
      3,
      'its default_input is 3; give a dict with some of ima',
    ),
    (
      'default_input',
      {'size': 3},
      "its default_input is {'size': 3}; give a dict with some of image_size",
    ),
    ('stacked', None, 'its stacked is None; give a tuple of names of modules'),
    ('stacked', 'head', "its stacked is 'head'; give a tuple of names of modu"),
    ('head', 3, 'its head is 3; give the name of a module'),
  ],
)
def test_wrong_part_is_refused_in_one_line(part, value, problem):
  architecture = Architecture(Base, WIDTH)._replace(**{part: value})
  found = find_problem(architecture)
  assert found.startswith(problem)
  assert '\n' not in found


def test_state_dict_without_functions_is_refused():
  state_dict = MODELS['vit'].state_dict._replace(to_timm=3)
  architecture = Architecture(Base, WIDTH, state_dict=state_dict)
  assert (
    find_problem(architecture) == 'state_dict.to_timm is 3; give a function'
  )
