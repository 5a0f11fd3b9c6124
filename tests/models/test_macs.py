"""Parameters and MACs by layer equal those of the networks."""

import jax
import jax.numpy as jnp
import pytest

from configs import imagenet
from convmixer_jax.models import ConvMixer, create_model
from convmixer_jax.models.convmixer import CONVMIXER
from convmixer_jax.models.convmixer.macs import count_layers, layer_table


@pytest.mark.slow
@pytest.mark.parametrize('variant', CONVMIXER.variants)
def test_parameters_equal_those_of_the_network(variant):
  config = imagenet.get_config(variant)
  model = create_model(config.model, 1000)
  image = jnp.zeros((1, 56, 56, 3))
  params = jax.eval_shape(
    lambda: model.init(jax.random.key(0), image, train=False)
  )['params']
  layers = count_layers(model, 224)
  assert sum(layer.parameters for layer in layers) == sum(
    leaf.size for leaf in jax.tree.leaves(params)
  )


def test_layers_equal_those_computed_by_hand():
  model = ConvMixer(8, 2, 3, 5, num_classes=7)
  layers = count_layers(model, 13)  # 4 x 4 patches; one column is cropped
  assert [layer.name for layer in layers] == [
    'patch embedding',
    'depthwise 1',
    'pointwise 1',
    'depthwise 2',
    'pointwise 2',
    'head',
  ]
  # Weights, bias, and BatchNorm's scale and bias; 16 positions per weight.
  assert [(layer.parameters, layer.macs) for layer in layers] == [
    (27 * 8 + 24, 16 * 27 * 8),
    *[(25 * 8 + 24, 16 * 25 * 8), (8 * 8 + 24, 16 * 8 * 8)] * 2,
    (8 * 7 + 7, 8 * 7),
  ]
  assert {layer.output for layer in layers[:-1]} == {(4, 4, 8)}
  assert layers[-1].output == (1, 1, 7)


def test_layer_table_ends_with_totals():
  layers = count_layers(ConvMixer(8, 2, 3, 5, num_classes=7), 13)
  lines = layer_table(layers).splitlines()
  assert len(lines) == 1 + len(layers) + 1
  assert lines[-1].split() == ['all', '927', '100.0%', '11,960', '100.0%']
