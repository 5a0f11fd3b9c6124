"""The networks whose features by timm are in fixtures/features.npz."""

import functools
import pathlib

import numpy as np
import pytest
from model_fixture import CONVMIXERS

from convmixer_jax.models import VIT, ConvMixer, ViT
from convmixer_jax.models.convmixer.state_dict import from_timm

_FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
CASES = (
  *CONVMIXERS,
  *(
    pytest.param(case, marks=pytest.mark.slow)
    for case in ('vit_32x32', 'vit_40x24')
  ),
)


def expected(case):
  """Returns what timm gives, by name."""
  return _part(_load('features.npz'), f'{case}/')


def network(case, **changes):
  """Returns model, variables and normalised images `[B, H, W, 3]`."""
  if case in CONVMIXERS:
    arrays = _part(_load('model.npz'), f'{case}/')
    model = ConvMixer(**CONVMIXERS[case], num_classes=5, **changes)
    images = arrays['images'].transpose(0, 2, 3, 1)
    return model, from_timm(_part(arrays, 'weights/')), images
  arrays = _load('vit.npz')
  tensors = _part(arrays, 'weights/')
  fields, named = VIT.state_dict.infer_fields(tensors, 'fixture')
  images = arrays[f'{case.removeprefix("vit_")}/images']
  model = ViT(heads=3, **fields, **changes)
  return model, VIT.state_dict.from_timm(named), images


@functools.cache
def _load(name):
  with np.load(_FIXTURES / name) as file:
    return dict(file)


def _part(arrays, prefix):
  return {
    name.removeprefix(prefix): array
    for name, array in arrays.items()
    if name.startswith(prefix)
  }
