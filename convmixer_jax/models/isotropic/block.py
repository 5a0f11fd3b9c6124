"""One block of an isotropic network: it mixes tokens, then channels."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from convmixer_jax.models.isotropic.channel_mixers import mix_channels
from convmixer_jax.models.isotropic.fields import Settings, has_class_token
from convmixer_jax.models.isotropic.norms import normalize
from convmixer_jax.models.isotropic.token_mixers import mix_tokens
from convmixer_jax.models.layers import drop_path, expose

# Mixes `[B, h, w, C]` to such, and a bias `[C]` that is still to be added.
_Mixer = Callable[[Settings, jax.Array], tuple[jax.Array, jax.Array | None]]


class Block(nn.Module):
  """Mixes tokens, then channels, each as `_mix` says.

  Attributes:
    settings: of the network.
    grid: rows and columns of tokens, without the class token.
    drops: whether branches are dropped.
    train: whether BatchNorm uses the statistics of the batch.
  """

  settings: Settings
  grid: tuple[int, int]
  drops: bool
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
    """Maps tokens to the same shape; `rate` is that of drop path."""
    settings = self.settings
    x = self._mix(
      x,
      'token',
      lambda settings, x: (mix_tokens(settings, x), None),
      settings.activation if settings.token_activation else None,
      settings.residual in ('token', 'both'),
      rate,
    )
    x = self._mix(
      x,
      'channel',
      mix_channels,
      settings.activation if settings.channel_mixer == 'pointwise' else None,
      settings.residual == 'both',
      rate,
    )
    return expose_tokens(self, 'output', x, self.grid), None

  def _mix(
    self,
    x: jax.Array,
    name: str,
    mixer: _Mixer,
    activation: str | None,
    has_residual: bool,
    rate: jax.Array,
  ) -> jax.Array:
    """Computes one of these, y being what the residual is added to:

    norm_place = 'after':   y = norm(activation(mixer(x)))
    norm_place = 'before':  y = activation(mixer(norm(x)))

    Args:
      x: tokens.
      name: 'token' or 'channel', of norm and LayerScale.
      mixer: that is applied.
      activation: after it; None for none.
      has_residual: whether the result is x + y, and not y.
      rate: of drop path.
    """  # noqa: D400
    settings = self.settings
    is_before = settings.norm_place == 'before'

    def normalized(x, bias=None, residual=None, *, activation, norm):
      return normalize(
        settings,
        x,
        bias,
        residual,
        activation=activation,
        norm=norm,
        name=f'{name}_norm',
        train=self.train,
      )

    y = x
    if is_before:
      y = normalized(y, activation=None, norm=settings.norm)
    y, bias = mixer(settings, y)
    is_plain = not (self.drops or settings.layer_scale)
    # The norm adds a residual in the same pass over memory.
    residual = x if has_residual and is_plain else None
    y = normalized(
      y,
      bias,
      residual,
      activation=activation,
      norm='none' if is_before else settings.norm,
    )
    if is_plain or not has_residual:
      return y
    if settings.layer_scale:
      init = nn.initializers.constant(settings.layer_scale)
      scale = self.param(f'{name}_scale', init, x.shape[-1:])
      y = (y.astype(jnp.float32) * scale).astype(x.dtype)
    if self.drops:
      y = drop_path(y, rate, self.make_rng('dropout'))
    return x + y


def expose_tokens(
  module: nn.Module, name: str, x: jax.Array, grid: tuple[int, int]
) -> jax.Array:
  """Exposes the tokens of the image as a grid; see `layers.expose`.

  Args:
    module: whose output they are; it has `settings`, or is the network.
    name: of the output.
    x: tokens `[B, h, w, C]`, or `[B, 1 + rows * columns, 1, C]` with a class
      token, which is sown as well.
    grid: rows and columns.

  Returns:
    What the following layers have to take.
  """
  settings = getattr(module, 'settings', module)
  if not has_class_token(settings):
    return expose(module, name, x)
  module.sow('intermediates', f'{name}_class_token', x[:, 0, 0])
  patches = x[:, 1:].reshape(x.shape[0], *grid, -1)
  exposed = expose(module, name, patches)
  if exposed is patches:
    return x
  exposed = exposed.reshape(x.shape[0], -1, 1, x.shape[-1])
  return jnp.concatenate([x[:, :1], exposed], axis=1)
