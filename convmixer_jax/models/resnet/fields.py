"""The fields of a ResNet, and the published ones."""

from convmixer_jax.kernels import NORM_AND_LINEAR_BACKENDS
from convmixer_jax.models.fields import Field

FIELDS = {
  'depths': Field((2, 2, 2, 2), 'blocks of each stage', minimum=1),
  'widths': Field(
    (16, 32, 64, 128),
    "channels of each stage's 3 x 3 convolutions; its outputs have four times "
    'as many',
    minimum=1,
  ),
  'bn_group_size': Field(
    0,
    'images that share BatchNorm statistics; 0 is the whole batch',
    minimum=0,
    role='training',
    groups='BatchNorm groups',
  ),
  'drop_path': Field(
    0.0,
    'probability of dropping the branch of the last block, from 0 for the '
    'first, linear over the blocks',
    minimum=0,
    below=1,
    role='training',
  ),
  'backend': Field(
    None,
    'backend of the convolutions, of max pooling and of BatchNorm in '
    'training, in float32; '
    "None: the platform's default",
    choices=NORM_AND_LINEAR_BACKENDS,
    role='compute',
    cpu_only=('cpu',),
  ),
  'scan': Field(
    False,
    'compile one block of those that are equal, and loop over it',
    role='compute',
  ),
  'remat': Field(False, 'recompute activations to save memory', role='compute'),
}

WIDTHS = (64, 128, 256, 512)
VARIANTS = {
  'resnet50': {'depths': (3, 4, 6, 3), 'widths': WIDTHS},
  'resnet101': {'depths': (3, 4, 23, 3), 'widths': WIDTHS},
  'resnet152': {'depths': (3, 8, 36, 3), 'widths': WIDTHS},
}
