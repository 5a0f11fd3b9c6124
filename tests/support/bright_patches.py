"""A ConvMixer whose class 'bright' is the brightness of the patches it sees."""

import numpy as np
from trained_models import trained_model

from convmixer_jax.models import ConvMixer


def bright_patches(**known):
  """Returns the trained model; its classes are 'bright' and 'dark'.

  Images are 24 x 24 in patches of 2 x 2. The grid of each layer is the mean of
  a patch, of pixels from 0 to 1, and the logits are plus and minus the mean of
  the grid, plus 0.25 and 0.5.
  """
  model = ConvMixer(
    1, 1, patch_size=2, kernel_size=1, activation='relu', num_classes=2
  )
  zeros, ones = np.zeros(1, np.float32), np.ones(1, np.float32)
  norm = {'scale': ones, 'bias': zeros}
  stats = {'mean': zeros, 'var': ones - np.float32(1e-5)}

  def stacked(tree):
    return {name: array[None] for name, array in tree.items()}

  blocks = {
    'depthwise': {'kernel': np.zeros((1, 1, 1, 1)), 'bias': zeros[None]},
    'depthwise_bn': stacked(norm),
    'pointwise': {'kernel': np.ones((1, 1, 1)), 'bias': zeros[None]},
    'pointwise_bn': stacked(norm),
  }
  params = {
    'patch_embedding': {'kernel': np.full((2, 2, 3, 1), 1 / 12), 'bias': zeros},
    'patch_bn': norm,
    'blocks': blocks,
    'head': {
      'kernel': np.array([[1.0, -1.0]]),
      'bias': np.array([0.25, 0.5]),
    },
  }
  batch_stats = {
    'patch_bn': stats,
    'blocks': {
      'depthwise_bn': stacked(stats),
      'pointwise_bn': stacked(stats),
    },
  }
  return trained_model(
    model,
    {'params': params, 'batch_stats': batch_stats},
    **{
      'image_size': 24,
      'eval_crop_fraction': 0.75,
      'mean': (0.0,) * 3,
      'std': (1.0,) * 3,
      'class_names': ('bright', 'dark'),
    }
    | known,
  )
