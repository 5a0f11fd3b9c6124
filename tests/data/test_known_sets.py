"""Names of data sets, without what does not say which set it is."""

import pytest

from convmixer_jax.data.known_sets import base_name, hub_name


@pytest.mark.parametrize(
  ('name', 'base', 'on_hub'),
  [
    ('digits', 'digits', None),
    ('cifar10:3.0.2', 'cifar10', 'uoft-cs/cifar10'),
    ('imagenette/full-size-v2:1.0.0', 'imagenette', None),
    ('hf:me/birds', 'hf:me/birds', 'me/birds'),
    ('hf:me/birds/small@v1', 'hf:me/birds/small', 'me/birds'),
    ('object:My/Source', 'object:My/Source', None),
  ],
)
def test_name_without_version_and_on_the_hub(name, base, on_hub):
  assert base_name(name) == base
  assert hub_name(name) == on_hub


def test_directory_of_a_hub_set_is_known_by_its_last_name(tmp_path):
  (tmp_path / 'birds').mkdir()
  name = f'hf:{tmp_path}/birds'
  assert (base_name(name), hub_name(name)) == ('hf:birds', None)
