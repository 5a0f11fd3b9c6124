"""Brings weights and gradients of timm's ConvMixer into the shape of ours."""

import numpy as np


def from_timm(tensors: dict[str, np.ndarray], depth: int) -> dict:
  """Returns `params` (and `batch_stats`, if there are any) from timm's keys."""

  def norm(prefix):
    return {
      'scale': tensors[f'{prefix}.weight'],
      'bias': tensors[f'{prefix}.bias'],
    }

  def statistics(prefix):
    return {
      'mean': tensors[f'{prefix}.running_mean'],
      'var': tensors[f'{prefix}.running_var'],
    }

  def stacked(of_block):
    blocks = [of_block(f'blocks.{i}') for i in range(depth)]
    return {name: np.stack([b[name] for b in blocks]) for name in blocks[0]}

  result = {}
  if 'head.weight' in tensors:
    result['params'] = {
      'patch_embedding': {
        'kernel': tensors['stem.0.weight'].transpose(2, 3, 1, 0),
        'bias': tensors['stem.0.bias'],
      },
      'patch_bn': norm('stem.2'),
      'blocks': {
        'depthwise': stacked(
          lambda block: {
            'kernel': tensors[f'{block}.0.fn.0.weight'][:, 0].transpose(
              1, 2, 0
            ),
            'bias': tensors[f'{block}.0.fn.0.bias'],
          }
        ),
        'depthwise_bn': stacked(lambda block: norm(f'{block}.0.fn.2')),
        'pointwise': stacked(
          lambda block: {
            'kernel': tensors[f'{block}.1.weight'][:, :, 0, 0].T,
            'bias': tensors[f'{block}.1.bias'],
          }
        ),
        'pointwise_bn': stacked(lambda block: norm(f'{block}.3')),
      },
      'head': {
        'kernel': tensors['head.weight'].T,
        'bias': tensors['head.bias'],
      },
    }
  if 'stem.2.running_mean' in tensors:
    result['batch_stats'] = {
      'patch_bn': statistics('stem.2'),
      'blocks': {
        'depthwise_bn': stacked(lambda block: statistics(f'{block}.0.fn.2')),
        'pointwise_bn': stacked(lambda block: statistics(f'{block}.3')),
      },
    }
  return result
