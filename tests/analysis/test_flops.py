"""MACs and parameters of traced networks equal formulas and publications."""

import pytest

from configs import imagenet
from convmixer_jax import models
from convmixer_jax.analysis import flops
from convmixer_jax.models.convmixer import CONVMIXER
from convmixer_jax.models.convmixer.macs import count_layers


@pytest.mark.slow
@pytest.mark.parametrize('variant', CONVMIXER.variants)
def test_counts_of_a_traced_convmixer_equal_its_formula(variant):
  fields = CONVMIXER.variants[variant]
  model = models.create_model(models.model_config('convmixer', **fields), 1000)
  layers = count_layers(model, 224)
  forward = sum(layer.macs for layer in layers)
  depthwise = sum(layer.macs for layer in layers if 'depthwise' in layer.name)
  counted = flops.count_forward(model, 224, batch_size=2)
  assert (counted.total, counted.depthwise) == (2 * forward, 2 * depthwise)
  # Two more products for each, but one for the patch embedding.
  counted = flops.count_training(model.clone(remat=True), 224)
  assert counted.total == 3 * forward - layers[0].macs
  assert counted.depthwise == 3 * depthwise
  assert flops.count_parameters(model, 224) == sum(
    layer.parameters for layer in layers
  )


def test_counts_of_a_traced_vit_equal_the_published_ones():
  for variant in ('vit_b16', 'deit_b'):
    model = models.create_model(imagenet.get_config(variant).model, 1000)
    assert flops.count_parameters(model, 224) == 86_567_656
    assert flops.count_parameters(model, 384) == 86_859_496
    macs = flops.count_forward(model, 224)
    assert macs.total == macs.matrix == 17_563_828_224
    # timm's 55.484 G at 384 pixels
    assert round(flops.count_forward(model, 384).total / 1e9, 3) == 55.484
