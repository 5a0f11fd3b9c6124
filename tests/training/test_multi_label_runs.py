"""Runs with several labels an image: resuming, devices, other heads."""

import json

import devices
import jax
import numpy as np
import pytest
import shapes

from configs import default
from convmixer_jax import load_run
from convmixer_jax.training import loop

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('shapes')
  return shapes.write_set(directory / 'data', {'train': 64, 'test': 50})


def config_of(data_dir):
  config = shapes.config_of(default.get_config(), data_dir)
  config.num_epochs, config.log_every_steps = 3, 3
  config.mixup.mixup_alpha, config.label_smoothing = 0.3, 0.1
  config.model.depth = 1
  return config


def test_resumed_run_equals_an_undisturbed_one(data_dir, tmp_path):
  config = config_of(data_dir)
  config.schedule = 'constant'  # that does not stretch
  expected = loop.train_and_evaluate(config, str(tmp_path / 'whole'))
  config.num_epochs = 2
  loop.train_and_evaluate(config, str(tmp_path / 'parts'))
  config.num_epochs = 3
  assert loop.train_and_evaluate(config, str(tmp_path / 'parts')) == expected
  whole, parts = (
    load_run(tmp_path / name).load('newest').variables
    for name in ('whole', 'parts')
  )
  jax.tree.map(np.testing.assert_array_equal, whole, parts)


SCRIPT = """
import json, sys
import jax
import shapes
from configs import default
from convmixer_jax.training import loop

config = shapes.config_of(default.get_config(), sys.argv[1])
config.num_steps, config.model.depth = 4, 1
config.mesh.fsdp = int(sys.argv[3])
assert jax.device_count() == int(sys.argv[4])
print(json.dumps(loop.train_and_evaluate(config, sys.argv[2])))
"""


def test_metrics_are_the_same_on_two_devices(data_dir, tmp_path):
  found = []
  for count, fsdp in ((1, 1), (2, 1), (2, 2)):
    workdir = tmp_path / f'{count}_{fsdp}'
    printed = devices.run(
      SCRIPT, count, str(data_dir), str(workdir), str(fsdp), str(count)
    )
    found.append(json.loads(printed.strip().splitlines()[-1]))
  assert list(found[0]) == list(found[1])
  for other in found[1:]:
    assert other == pytest.approx(found[0], rel=1e-3)


def test_weights_of_one_class_start_all_but_the_head(
  data_dir, tmp_path, capsys
):
  config = config_of(data_dir)
  config.num_epochs = 1
  loop.train_and_evaluate(config, str(tmp_path / 'first'))
  run = tmp_path / 'first'
  written = json.loads((run / 'config.json').read_text())
  written['dataset']['multi_label'] = False
  (run / 'config.json').write_text(json.dumps(written))

  config.init_from, config.learning_rate = str(run), 0.0
  config.weight_decay = 0.0
  loop.train_and_evaluate(config, str(tmp_path / 'second'))
  assert 'it gives one class for an image' in capsys.readouterr().out
  first, second = (
    load_run(tmp_path / name).load('newest').variables['params']
    for name in ('first', 'second')
  )
  np.testing.assert_array_equal(
    first['patch_embedding']['kernel'], second['patch_embedding']['kernel']
  )
  assert not np.array_equal(first['head']['kernel'], second['head']['kernel'])
