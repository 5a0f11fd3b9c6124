"""The released weights of ViT-B/16 and DeiT-B, also distilled."""

from typing import Any

from convmixer_jax.models.released import HALF, Released, by_tag

_DEIT: dict[str, Any] = {'eval_crop_fraction': 0.9}
_VIT: dict[str, Any] = {'eval_crop_fraction': 0.9, 'mean': HALF, 'std': HALF}
_384: dict[str, Any] = {'image_size': 384, 'eval_crop_fraction': 1.0}

RELEASED = by_tag(
  [
    Released(
      'vit_base_patch16_224.augreg_in21k_ft_in1k',
      'vit_b16',
      84.534,
      97.300,
      **_VIT,
    ),
    Released(
      'vit_base_patch16_224.augreg2_in21k_ft_in1k',
      'vit_b16',
      85.108,
      97.530,
      **_VIT,
    ),
    Released('vit_base_patch16_224.augreg_in1k', 'vit_b16', 79.154, **_VIT),
    Released(
      'vit_base_patch16_224.orig_in21k_ft_in1k',
      'vit_b16',
      81.782,
      **_VIT,
      files=('jx_vit_base_p16_224-80ecf9dd.pth',),
    ),
    Released('vit_base_patch16_224.sam_in1k', 'vit_b16', 80.246, **_VIT),
    Released(
      'vit_base_patch16_384.augreg_in21k_ft_in1k',
      'vit_b16',
      86.010,
      97.998,
      **(_VIT | _384),
    ),
    Released(
      'deit_base_patch16_224.fb_in1k',
      'deit_b',
      81.980,
      95.740,
      **_DEIT,
      files=('deit_base_patch16_224-b5f2ef4d.pth',),
    ),
    Released(
      'deit_base_patch16_384.fb_in1k',
      'deit_b',
      83.108,
      96.376,
      **_384,
      files=('deit_base_patch16_384-8de9b5d1.pth',),
    ),
    Released(  # of torchvision, which measured it
      'vit_b_16-c867db91',
      'vit_b16',
      81.072,
      95.318,
      eval_interpolation='bilinear',
      license_id='bsd-3-clause',
      on_hub=False,
    ),
  ]
)
DISTILLED = by_tag(
  [
    Released(
      'deit_base_distilled_patch16_224.fb_in1k',
      'deit_b_distilled',
      83.384,
      96.492,
      **_DEIT,
      files=('deit_base_distilled_patch16_224-df68dfff.pth',),
    ),
    Released(
      'deit_base_distilled_patch16_384.fb_in1k',
      'deit_b_distilled',
      85.438,
      97.332,
      **_384,
      files=('deit_base_distilled_patch16_384-d0272ac0.pth',),
    ),
  ]
)
