"""The released weights of ResNet-152.

A1, A2, A3 and A1h are of "ResNet strikes back" (arXiv 2110.00476), V1 and V2 of
torchvision. Several were trained on smaller images than they are tested on.
"""

from typing import Any

from convmixer_jax.models.released import Released, Test, by_tag

_BSD = 'bsd-3-clause'
_A: dict[str, Any] = {'eval_crop_fraction': 0.95}

RESNET152 = by_tag(
  [
    Released(
      'resnet152.a1_in1k',
      'resnet152',
      81.998,
      95.294,
      **_A,
      test=Test(288, 1.0, 82.742, 95.734),
      files=('resnet152_a1_0-2eee8a7a.pth',),
    ),
    Released(
      'resnet152.a2_in1k',
      'resnet152',
      81.764,
      95.270,
      **_A,
      test=Test(288, 1.0, 82.614, 95.748),
      files=('resnet152_a2_0-b4c6978f.pth',),
    ),
    Released(
      'resnet152.a3_in1k',
      'resnet152',
      78.896,
      image_size=160,
      **_A,
      test=Test(224, 0.95, 80.548, 95.004),
      files=('resnet152_a3_0-134d4688.pth',),
    ),
    Released(
      'resnet152.a1h_in1k',
      'resnet152',
      82.818,
      96.124,
      **_A,
      test=Test(288, 1.0, 83.494, 96.522),
      files=('resnet152_a1h-dc400468.pth',),
    ),
    Released(
      'resnet152.tv_in1k',
      'resnet152',
      78.330,
      94.046,
      eval_interpolation='bilinear',
      files=('resnet152-394f9c45.pth',),
      license_id=_BSD,
    ),
    Released(
      'resnet152.tv2_in1k',
      'resnet152',
      image_size=176,
      eval_interpolation='bilinear',
      test=Test(224, 0.965, 82.294, 96.000),
      files=('resnet152-f82ba261.pth',),
      license_id=_BSD,
    ),
    Released(
      'resnet152.gluon_in1k',
      'resnet152',
      79.712,
      94.720,
      files=('gluon_resnet152_v1b-c1edb0dd.pth',),
    ),
  ]
)
