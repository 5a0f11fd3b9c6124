"""The study of stems and token mixers: its grids."""

import jax
import ml_collections
import pytest

from configs.sweeps import patches
from convmixer_jax import config_files, models
from convmixer_jax.errors import UserError
from convmixer_jax.models.registry import create_model
from convmixer_jax.sweeps.grid import expand


def count_parameters(overrides: dict) -> int:
  config = config_files.load('patches')
  with config.unlocked():
    config.update_from_flattened_dict(overrides)
  model = create_model(ml_collections.ConfigDict(config.model), 10, 'float32')
  architecture = models.architecture_of(model)
  return sum(
    leaf.size
    for leaf in jax.tree.leaves(
      architecture.variable_shapes(model, 32)['params']
    )
  )


def test_rows_are_evaluated_on_images_that_chose_no_rate():
  rows = expand(patches.get_sweep())
  assert len({row.name for row in rows}) == len(rows)
  for row in rows:
    assert row.seeds == (0, 1, 2)
    assert not any(key.startswith('dataset.') for key in row.overrides)
    assert row.choose.overrides['dataset.train_split'] == 'train[:90%]'
    assert row.choose.overrides['dataset.eval_split'] == 'train[90%:]'


@pytest.mark.slow
def test_widths_make_numbers_of_parameters_equal():
  rows = {row.name: row for row in expand(patches.get_sweep('parameters'))}
  assert len(rows) == len(patches.WIDTHS)
  for stem, mixer in patches.WIDTHS:
    convolution = patches.STEMS[stem] | patches.MIXERS['convolution']
    found = count_parameters(rows[f'parameters-{stem}-{mixer}'].overrides)
    assert found == pytest.approx(count_parameters(convolution), rel=0.06)


def test_wrong_variant_is_refused():
  with pytest.raises(UserError, match='there are width, parameters'):
    patches.get_sweep('widths')
