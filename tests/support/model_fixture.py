"""The fields of the ConvMixers in fixtures/model.npz."""

CONVMIXERS = {
  'gelu_k5': {
    'width': 12,
    'depth': 2,
    'patch_size': 3,
    'kernel_size': 5,
    'activation': 'gelu',
  },
  'relu_k4': {
    'width': 8,
    'depth': 3,
    'patch_size': 2,
    'kernel_size': 4,
    'activation': 'relu',
  },
}
