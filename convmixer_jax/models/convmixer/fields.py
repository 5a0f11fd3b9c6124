"""The fields of a ConvMixer; the defaults are for digits of 8 x 8 pixels."""

from convmixer_jax import kernels
from convmixer_jax.models.fields import Field

FIELDS = {
  'width': Field(64, 'channels of all layers', minimum=1),
  'depth': Field(4, 'number of mixer blocks', minimum=1),
  'patch_size': Field(1, 'side of a patch, in pixels', minimum=1),
  'kernel_size': Field(5, 'side of the depthwise kernels', minimum=1),
  'activation': Field(
    'gelu',
    'activation; gelu is the exact one',
    choices=tuple(kernels.ACTIVATIONS),
  ),
  'depthwise': Field(
    None,
    "backend of the depthwise convolutions; None: the platform's default",
    choices=kernels.BACKENDS,
    role='compute',
    cpu_only=('cpu',),
    gpu_only=('cuda',),
  ),
  'bn_group_size': Field(
    0,
    'images that share BatchNorm statistics; 0 is the whole batch',
    minimum=0,
    role='training',
    groups='BatchNorm groups',
  ),
  'scan': Field(False, 'compile one block and loop over it', role='compute'),
  'remat': Field(False, 'recompute activations to save memory', role='compute'),
}
