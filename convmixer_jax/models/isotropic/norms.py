"""The normalisations of an isotropic network, with what comes before them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax import kernels
from convmixer_jax.models.batch_norm import ActivationBatchNorm, BatchNorm
from convmixer_jax.models.convmixer.module import norm_and_linear_backend
from convmixer_jax.models.isotropic.fields import Settings
from convmixer_jax.models.layers import LayerNorm
from convmixer_jax.models.resmlp import Affine

_GROUP_EPSILON = 1e-5  # PoolFormer's, which is PyTorch's default


def activate(x: jax.Array, activation: str) -> jax.Array:
  """Applies 'gelu' (exact) or 'relu'; same shape and dtype."""
  return kernels.gelu(x) if activation == 'gelu' else jax.nn.relu(x)


def normalize(
  settings: Settings,
  x: jax.Array,
  bias: jax.Array | None = None,
  residual: jax.Array | None = None,
  *,
  activation: str | None,
  norm: str,
  name: str,
  train: bool,
) -> jax.Array:
  """Computes `norm(activation(x + bias)) (+ residual)`.

  To be called in a module's compact method, which gets a submodule `name`, if
  the norm has parameters.

  Args:
    settings: of the network.
    x: `[B, h, w, C]`.
    bias: `[C]`, or None.
    residual: like x, or None.
    activation: 'gelu', 'relu', or None.
    norm: a choice of `config.model.norm`.
    name: of the norm.
    train: whether BatchNorm uses the statistics of the batch.

  Returns:
    `[B, h, w, C]`, dtype of x.
  """
  if norm == 'batch' and activation:
    return ActivationBatchNorm(
      activation,
      settings.bn_group_size,
      norm_and_linear_backend(settings.depthwise),
      name=name,
    )(x, bias, residual, train=train)
  if bias is not None:
    x = (x.astype(jnp.float32) + bias).astype(x.dtype)
  if activation:
    x = activate(x, activation)
  if norm == 'batch':
    plain = BatchNorm(
      relu=False,
      group_size=settings.bn_group_size,
      backend=norm_and_linear_backend(settings.depthwise),
      name=name,
    )
    return plain(x, residual, train=train)
  if norm != 'none':
    backend = norm_and_linear_backend(settings.depthwise)
    x = _create(norm, x.dtype, backend, name)(x)
  return x if residual is None else residual + x


def _create(
  norm: str, dtype: jnp.dtype, backend: str | None, name: str
) -> nn.Module:
  if norm == 'layer':
    return LayerNorm(dtype, backend, name=name)
  if norm == 'group':
    return nn.GroupNorm(
      num_groups=1,
      epsilon=_GROUP_EPSILON,
      dtype=dtype,
      use_fast_variance=False,
      name=name,
    )
  return Affine(dtype, backend, name=name)
