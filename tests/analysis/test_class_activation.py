"""Class activation maps, against Grad-CAM in PyTorch and the logits."""

from functools import partial

import architectures
import feature_fixture
import jax
import numpy as np
import pytest

from convmixer_jax.analysis import class_activation


def compute(model, variables, images, layers):
  classes = np.arange(len(images), dtype=np.int32) % 5
  function = partial(class_activation.class_maps, model, layers=layers)
  return jax.jit(function)(variables, images, classes=classes), classes


@pytest.mark.parametrize('case', feature_fixture.CASES)
@pytest.mark.parametrize(
  'scan', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_grad_cam_of_each_layer_equals_pytorch(case, scan):
  timm = feature_fixture.expected(case)
  names = [key for key in timm if key.startswith('grad_cam/')]
  layers = [name.removeprefix('grad_cam/') for name in names]
  network = feature_fixture.network(case, scan=scan)
  maps, _ = compute(*network, layers)
  assert len(layers) == 1 + network[0].depth
  for layer, name in zip(layers, names, strict=True):
    scale = timm[name].max()
    np.testing.assert_allclose(
      maps.grad_cam[layer], timm[name], rtol=0, atol=1e-5 * scale + 1e-12
    )


@pytest.mark.parametrize('case', feature_fixture.CONVMIXERS)
def test_mean_of_cam_and_the_bias_are_the_logit(case):
  model, variables, images = feature_fixture.network(case)
  maps, classes = compute(model, variables, images, ['last'])
  timm = feature_fixture.expected(case)
  bias = np.asarray(variables['params']['head']['bias'])[classes]
  logits = np.asarray(maps.cam, np.float64).mean(axis=(1, 2)) + bias
  expected = timm['logits'][range(len(images)), classes]
  np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-6)
  assert class_activation.is_exact(maps)


@pytest.mark.parametrize('case', feature_fixture.CONVMIXERS)
def test_grad_cam_of_the_last_layer_is_the_positive_part_of_cam(case):
  maps, _ = compute(*feature_fixture.network(case), ['last'])
  positions = maps.cam[0].size
  np.testing.assert_allclose(
    positions * maps.grad_cam['last'], np.maximum(maps.cam, 0), atol=2e-6
  )


@pytest.mark.slow
def test_cam_of_a_vit_is_not_exact():
  maps, _ = compute(*feature_fixture.network('vit_32x32'), ['last'])
  assert not class_activation.is_exact(maps)
  assert float(maps.gradient['last']) == 0  # only the class token is read


def test_logits_of_bfloat16_are_explained_exactly():
  model, variables = architectures.create('convmixer', num_classes=5)
  model = model.clone(dtype=jax.numpy.bfloat16, depthwise='xla')
  images = architectures.normalized(architectures.images_of())
  maps, _ = compute(model, variables, images, ['block1', 'last'])
  assert class_activation.is_exact(maps)
  assert maps.grad_cam['block1'].dtype == np.float32
