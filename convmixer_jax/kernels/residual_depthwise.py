"""The half of a ConvMixer's block that mixes space, in training.

Kernels for GPUs compute more of it while they convolve: BatchNorm's sums in the
forward pass; in the backward pass first the activation's gradient, and then
the sum with the residual's gradient. Each saves passes over memory. Wherever
there are no such kernels, each operation is computed by itself, as it is
outside of this module.

Saved for the backward pass are the images, the convolution's result before the
activation, and mean and inverse deviation of each channel; the activation is
computed again.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from convmixer_jax.kernels import dispatch, norm
from convmixer_jax.kernels.depthwise import check_operands


def residual_depthwise(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  scale: jax.Array,
  offset: jax.Array,
  *,
  activation: str,
  group_size: int,
  epsilon: float,
  depthwise: str | None = None,
  backend: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes `x + BatchNorm(activation(depthwise_conv(x, kernel, bias)))`.

  Args:
    x: `[B, H, W, C]`, float32 or bfloat16.
    kernel: `[k, k, C]`, as in `depthwise_conv`.
    bias: `[C]`, as there.
    scale: `[C]`, of BatchNorm, as in `activation_batch_norm`.
    offset: `[C]`, as there.
    activation: 'gelu' (exact) or 'relu'.
    group_size: images that share statistics; divides B.
    epsilon: added to the variance.
    depthwise: backend of the convolution, as in `depthwise_conv`.
    backend: of the rest, as in `activation_batch_norm`.

  Returns:
    What `activation_batch_norm` does.

  Raises:
    ValueError: for shapes that do not fit or an unknown backend.
    TypeError: for another dtype of x.
    RuntimeError: a backend was named, and cannot be used here.
  """
  dispatch.check_backend('depthwise_conv', depthwise)
  check_operands(x, kernel, bias)
  y, mean, var = _residual_depthwise(
    x, kernel, bias, scale, offset, activation, group_size, epsilon,
    depthwise, backend,
  )  # fmt: skip
  return y, lax.stop_gradient(mean), lax.stop_gradient(var)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7, 8, 9))
def _residual_depthwise(*arguments):
  return _forward(*arguments)[0]


def _forward(
  x, kernel, bias, scale, offset, activation, group_size, epsilon,
  depthwise, backend,
):  # fmt: skip
  y, sums = _convolve_and_sum(
    *(x, kernel.astype(x.dtype), bias.astype(x.dtype), jnp.zeros_like(scale)),
    *(activation, group_size, depthwise, backend),
  )
  y = checkpoint_name(y, norm.SAVED_ACTIVATION)
  results, saved = norm.forward_from_sums(
    *(y, jnp.zeros_like(scale), scale, offset, x, sums),
    *(activation, epsilon, backend),
  )
  return results, (x, kernel, bias, saved)


def _convolve_and_sum(
  x, kernel, bias, zeros, activation, group_size, depthwise, backend
):
  """Returns the convolution `[B, H, W, C]`, and sums as `norm.group_sums`."""
  pad_before = (kernel.shape[0] - 1) // 2

  def separate(x, kernel, bias):
    y = dispatch.call(
      'depthwise_conv', depthwise, x, kernel, bias, pad_before=pad_before
    )
    return y, norm.group_sums(y, zeros, activation, group_size, backend)

  if group_size != x.shape[0]:  # kernels sum over all images
    return separate(x, kernel, bias)
  return dispatch.call_fused(
    'depthwise_conv_sums',
    depthwise,
    separate,
    *(x, kernel, bias),
    activation=activation,
    pad_before=pad_before,
  )


def _backward(
  activation, group_size, epsilon, depthwise, backend, saved, cotangents
):
  x, kernel, bias, saved_by_norm = saved
  g = cotangents[0]
  coefficients, dscale, doffset = norm.gradient_coefficients(
    activation, group_size, backend, saved_by_norm, g
  )
  size = kernel.shape[0]
  dx, dy = _input_gradient(
    *(g, kernel[::-1, ::-1].astype(x.dtype), *saved_by_norm[:2], coefficients),
    *(activation, size // 2, depthwise, backend),
  )
  dkernel, dbias = dispatch.call(
    'depthwise_kernel_gradient',
    depthwise,
    x,
    dy,
    size=size,
    pad_before=(size - 1) // 2,
  )
  dkernel, dbias = dkernel.astype(kernel.dtype), dbias.astype(bias.dtype)
  return dx, dkernel, dbias, dscale, doffset


def _input_gradient(
  g, kernel, z, zeros, coefficients, activation, pad_before, depthwise, backend
):
  """Returns the gradients of x, and of the convolution's result z."""

  def separate(g, kernel, z, *coefficients):
    dy, _ = norm.gradient_before(z, zeros, g, coefficients, activation, backend)
    return _convolve_and_add(dy, kernel, g, pad_before, depthwise), dy

  if len(coefficients[0]) != 1:  # kernels take those of all images
    return separate(g, kernel, z, *coefficients)
  return dispatch.call_fused(
    'depthwise_conv_gradient',
    depthwise,
    separate,
    *(g, kernel, z, *coefficients),
    activation=activation,
    pad_before=pad_before,
  )


def _convolve_and_add(dy, kernel, g, pad_before, depthwise):
  """Returns the gradient of x: of the convolution, and of the residual."""

  def separate(dy, kernel, g):
    return g + dispatch.call(
      'depthwise_conv', depthwise, dy, kernel, None, pad_before=pad_before
    )

  return dispatch.call_fused(
    'depthwise_conv_add',
    depthwise,
    separate,
    *(dy, kernel, g),
    pad_before=pad_before,
  )


_residual_depthwise.defvjp(_forward, _backward)
