"""Refuses settings of an isotropic network that make no sense together."""

from typing import Any

from convmixer_jax.errors import UserError
from convmixer_jax.models.isotropic.fields import TOKEN_MIXERS
from convmixer_jax.models.layers import divisors

# Why the token mixers that are not among these do not take a class token.
_WITHOUT_CLASS_TOKEN = {
  'convolution': 'it has no place in the grid that a convolution needs',
  'pool': 'it has no place in the grid that an average needs',
  'none': 'without a token mixer it never sees the image',
}


def check_settings(network: Any) -> None:
  """Checks the fields of a network together; each is in its range.

  Raises:
    UserError: says which ones contradict each other, and why.
  """
  for check in (_find_wrong_stem, _find_wrong_mixer, _find_wrong_branch):
    if problem := check(network):
      raise UserError(problem)


def _given(network: Any, *names: str) -> str:
  """Returns fields and their values, as part of an error."""
  return ' with '.join(
    f'config.model.{name} = {getattr(network, name)!r}' for name in names
  )


def _find_wrong_stem(network):
  p = network.patch_size
  given = _given(network, 'stem', 'patch_size')
  if network.stem == 'pixels' and p != 1:
    return f'{given}: every pixel is a token, so the patch size has to be 1'
  if network.stem == 'overlapping' and p == 1:
    return (
      f'{given}: patches of 1 pixel do not overlap; choose a larger size, or '
      "'pixels'"
    )
  if network.stem == 'convolutions' and (p < 4 or p & (p - 1)):
    return (
      f'{given}: two or more convolutions of stride 2 make a patch size of 4, '
      "8, 16, ...; choose one of these (for 2, 'overlapping' is a convolution "
      'of stride 2)'
    )
  return None


def _find_wrong_mixer(network):
  mixer = network.token_mixer
  if network.pooling == 'class_token' and mixer in _WITHOUT_CLASS_TOKEN:
    others = [name for name in TOKEN_MIXERS if name not in _WITHOUT_CLASS_TOKEN]
    return (
      f'{_given(network, "pooling", "token_mixer")}: '
      f"{_WITHOUT_CLASS_TOKEN[mixer]}; choose pooling 'mean', or one of the "
      f'token mixers {", ".join(others)}'
    )
  if mixer == 'attention' and network.width % network.heads:
    return (
      f'config.model.heads = {network.heads} does not divide '
      f'config.model.width = {network.width}; choose one of '
      f'{", ".join(map(str, divisors(network.width)))}'
    )
  if mixer == 'pool' and network.kernel_size == 1:
    return (
      f'{_given(network, "token_mixer", "kernel_size")}: the average of one '
      'token minus that token is 0; choose a larger kernel_size, such as 3'
    )
  return None


def _find_wrong_branch(network):
  is_empty = (network.token_mixer, network.norm) == ('none', 'none')
  if is_empty and not network.token_activation and network.residual != 'none':
    return (
      f'{_given(network, "token_mixer", "norm", "token_activation")}: the '
      'residual connection would add the tokens to themselves, which doubles '
      'them in every block; choose a norm, or token_activation True'
    )
  if network.residual == 'none' and network.layer_scale:
    return (
      f'{_given(network, "layer_scale", "residual")}: LayerScale is of the '
      "branches that residual connections go around; choose residual 'token' "
      "or 'both', or layer_scale 0"
    )
  if network.residual == 'none' and network.drop_path:
    return (
      f'{_given(network, "drop_path", "residual")}: without a residual '
      'connection nothing is left where a branch is dropped; choose residual '
      "'token' or 'both', or drop_path 0"
    )
  if network.norm != 'batch' and network.bn_group_size:
    return (
      f'{_given(network, "bn_group_size", "norm")}: only BatchNorm has '
      "statistics of groups of images; choose norm 'batch', or bn_group_size 0"
    )
  return None
