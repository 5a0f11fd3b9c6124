"""Names of tensors; test_weight_files.py checks the numbers."""

import pathlib

import numpy as np
import pytest

from convmixer_jax.errors import UserError
from convmixer_jax.models.convmixer import state_dict as layouts

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'checkpoint.npz'
FIELDS = {
  'width': 4,
  'depth': 2,
  'patch_size': 2,
  'kernel_size': 3,
  'num_classes': 3,
}
AUTHORS = {
  'stem.0': '0',
  'stem.2': '2',
  'blocks.0.0.fn.0': '3.0.fn.0',
  'blocks.0.0.fn.2': '3.0.fn.2',
  'blocks.0.1': '3.1',
  'blocks.0.3': '3.3',
  'blocks.1.0.fn.0': '4.0.fn.0',
  'blocks.1.0.fn.2': '4.0.fn.2',
  'blocks.1.1': '4.1',
  'blocks.1.3': '4.3',
  'head': '7',
}


@pytest.fixture
def tensors():
  with np.load(FIXTURE) as file:
    return dict(file)


def as_authors(tensors):
  result = {}
  for name, tensor in tensors.items():
    layer, _, kind = name.rpartition('.')
    result[f'{AUTHORS[layer]}.{kind}'] = tensor
  return result


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.module.'])
@pytest.mark.parametrize('rename', [dict, as_authors])
def test_infers_fields_from_names_of_timm_and_of_the_authors(
  tensors, prefix, rename
):
  named = {f'{prefix}{k}': array for k, array in rename(tensors).items()}
  fields, found = layouts.infer_fields(named, 'x')
  assert fields == FIELDS
  assert found.keys() == {
    name for name in tensors if not name.endswith('num_batches_tracked')
  }
  for name, tensor in found.items():
    np.testing.assert_array_equal(tensor, tensors[name])


def test_conversion_to_timm_and_back_is_identical(tensors):
  _, found = layouts.infer_fields(tensors, 'x')
  back = layouts.to_timm(layouts.from_timm(found))
  assert back.keys() == tensors.keys()
  for name, tensor in back.items():
    if name.endswith('num_batches_tracked'):
      assert tensor == 0 and tensor.dtype == np.int64
    else:
      np.testing.assert_array_equal(tensor, tensors[name])


@pytest.mark.parametrize('rename', [dict, as_authors])
def test_faults_are_listed_by_the_names_in_the_file(tensors, rename):
  def name(timm):
    layer, _, kind = timm.rpartition('.')
    return timm if rename is dict else f'{AUTHORS[layer]}.{kind}'

  named = rename(tensors)
  del named[name('blocks.1.1.bias')]
  del named[name('stem.2.running_var')]
  named['fc.weight'] = np.zeros(3)
  named[name('blocks.0.0.fn.0.weight')] = np.zeros((4, 4, 3, 3), np.float32)
  named[name('head.bias')] = np.zeros(3, np.int64)
  with pytest.raises(UserError) as caught:
    layouts.infer_fields(named, 'x.pth')
  assert str(caught.value) == (
    'x.pth is not a ConvMixer as timm or its authors lay it out; missing: '
    f'{name("stem.2.running_var")}, {name("blocks.1.1.bias")}; surplus: '
    f'fc.weight; misshapen: {name("blocks.0.0.fn.0.weight")} (4, 4, 3, 3) '
    f'instead of (4, 1, 3, 3); not of floating point: {name("head.bias")} '
    '(int64); give weights of a ConvMixer'
  )


def test_long_list_of_faults_is_shortened(tensors):
  named = {k: v for k, v in tensors.items() if not k.startswith('blocks.0')}
  with pytest.raises(UserError, match=r'missing: blocks.0.* and 4 more; '):
    layouts.infer_fields(named, 'x')


@pytest.mark.parametrize(
  'named',
  [
    {},
    {'conv1.weight': np.zeros((64, 3, 7, 7))},
    {'blocks.999999999999.1.weight': np.zeros((4, 4))},
    {'99999.1.weight': np.zeros((4, 4)), '': np.zeros(())},
  ],
)
def test_tensors_of_another_network_are_refused(named):
  with pytest.raises(
    UserError, match=r'x is not a ConvMixer .*missing: '
  ) as caught:
    layouts.infer_fields(named, 'x')
  assert len(str(caught.value)) < 1000
