"""Depthwise convolution by the CUDA kernels in csrc/.

The functions have the interface that every backend's have
(`xla/depthwise.py`), and three are fused with what is around the convolution.
They have to be available (`unavailable`). Under `jax.vmap`, XLA computes
instead.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.kernels.gpu import instances, library
from convmixer_jax.kernels.gpu.instances import Epilogue
from convmixer_jax.kernels.gpu.partitioned import wrap
from convmixer_jax.kernels.under_vmap import except_under_vmap
from convmixer_jax.kernels.xla import depthwise as xla_depthwise
from convmixer_jax.kernels.xla import norm as xla_norm
from convmixer_jax.kernels.xla import shift


def correlate(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pad_before: int
) -> jax.Array:
  """Correlates x `[B, H, W, C]` with kernel `[k, k, C]`, plus bias `[C]`.

  All are bfloat16; sums are in float32, and rounded once.
  """
  arrays = {'x': x, 'kernel': kernel, 'bias': bias}
  return _forward(arrays, pad_before)['y']


def correlate_and_add(
  x: jax.Array, kernel: jax.Array, residual: jax.Array, pad_before: int
) -> jax.Array:
  """Computes `correlate(x, kernel, None) + residual`, of x's shape.

  As two operations do, it rounds before and after the sum.
  """
  arrays = {'x': x, 'kernel': kernel, 'residual': residual}
  return _forward(arrays, pad_before, Epilogue(residual=True))['y']


def correlate_and_sum(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  activation: str,
  pad_before: int,
) -> tuple[jax.Array, jax.Array]:
  """Returns `y = correlate(x, kernel, bias)`, and sums `[1, 2, C]` in float32.

  These are of a and a^2 over images, rows and columns, where a is
  `activation(y)`.
  """
  found = _forward(
    {'x': x, 'kernel': kernel, 'bias': bias},
    pad_before,
    Epilogue(activation=activation, sums=True),
  )
  return found['y'], found['sums'][None]


def correlate_gradient(
  g: jax.Array,
  kernel: jax.Array,
  z: jax.Array,
  p: jax.Array,
  q: jax.Array,
  r: jax.Array,
  activation: str,
  pad_before: int,
) -> tuple[jax.Array, jax.Array]:
  """Returns `correlate(dy, kernel, None) + g`, and dy, both like g.

  dy is `activation'(z) (p g + q activation(z) + r)`: of the convolution's
  result z, given the gradient g of what BatchNorm makes of it.

  Args:
    g: `[B, H, W, C]`, bfloat16.
    kernel: `[k, k, C]`, bfloat16.
    z: like g.
    p: `[1, C]`, float32, as q and r.
    q: of the activation.
    r: the constant.
    activation: 'gelu' or 'relu'.
    pad_before: zeros before the first row and column of dy.
  """
  coefficients = jnp.concatenate([p, q, r])
  found = _forward(
    {'x': g, 'kernel': kernel, 'z': z, 'coefficients': coefficients},
    pad_before,
    Epilogue(activation=activation, gradient=True),
  )
  return found['y'], found['dy']


def kernel_gradient(
  x: jax.Array, dy: jax.Array, size: int, pad_before: int
) -> tuple[jax.Array, jax.Array]:
  """Returns gradients `[k, k, C]`, `[C]` of `correlate`'s kernel and bias.

  In float32, the same bits for the same images each time.
  """

  def by_kernels(x, dy):
    sums = _kernel_gradient(x, dy, size, pad_before, Epilogue())
    return sums[:-1].reshape(size, size, -1), sums[-1]

  def by_xla(x, dy):
    # That of `xla_depthwise` cannot be mapped.
    return shift.kernel_gradient(x, dy, size, pad_before)

  return except_under_vmap(by_kernels, by_xla)(x, dy)


def fused_mixer(
  p: jax.Array,
  p_bias: jax.Array,
  p_factor: jax.Array,
  p_shift: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  factor: jax.Array,
  *,
  activation: str,
  pad_before: int,
) -> jax.Array:
  """Computes `kernels.fused_mixer`: XLA what is before the convolution."""
  factors, shifts = (
    jnp.broadcast_to(array, (p.shape[0], *array.shape))
    for array in (p_factor, p_shift)
  )
  x = xla_norm.affine(p, p_bias, factors, shifts, None, activation)
  arrays = {
    'x': x,
    'kernel': kernel,
    'bias': bias,
    'factor': factor.astype(jnp.float32),
    'residual': x,
  }
  return _forward(arrays, pad_before, _MIXER[activation])['y']


_MIXER = {
  activation: Epilogue(activation=activation, scale=True, residual=True)
  for activation in ('relu', 'gelu')
}


def unavailable(
  operation: str, operands: tuple[Any, ...], static: Mapping[str, Any]
) -> str | None:
  """Returns why an operation cannot be computed by these kernels, or None.

  It is compiled, if this process has a GPU.

  Args:
    operation: as in `dispatch.call`.
    operands: arrays or their shapes; the first are the images.
    static: the operation's other arguments.
  """
  shape, pad_before = operands[0].shape, static['pad_before']
  kind, epilogue = 'forward', Epilogue()
  if operation == 'depthwise_kernel_gradient':
    kind, size = 'kernel_gradient', static['size']
  elif operation == 'fused_mixer':
    epilogue, size = _MIXER[static['activation']], operands[4].shape[0]
  else:
    size = operands[1].shape[0]
    if operation == 'depthwise_conv_add':
      epilogue = Epilogue(residual=True)
    elif operation == 'depthwise_conv_sums':
      epilogue = Epilogue(activation=static['activation'], sums=True)
    elif operation == 'depthwise_conv_gradient':
      epilogue = Epilogue(activation=static['activation'], gradient=True)
  if not all(isinstance(length, int) for length in shape):
    return f'the shape {shape} is not known when the program is compiled'
  dtype = operands[0].dtype.name
  return instances.supported(
    kind, shape, size, pad_before, epilogue, dtype
  ) or library.unavailable(
    instances.instance(
      kind,
      shape,
      size,
      pad_before,
      epilogue,
      shared_bytes=library.shared_bytes(),
    )
  )


def _forward(arrays, pad_before, epilogue=Epilogue()):  # noqa: B008
  given = {name: array for name, array in arrays.items() if array is not None}
  results = ('y',) + ('sums',) * epilogue.sums + ('dy',) * epilogue.gradient
  kernels = _FORWARD[tuple(given), results]
  size = given['kernel'].shape[0]

  def by_xla(*operands):
    return _forward_by_xla(
      dict(zip(given, operands, strict=True)), pad_before, epilogue
    )

  found = except_under_vmap(
    lambda *operands: kernels(*operands, size, pad_before, epilogue), by_xla
  )(*given.values())
  return dict(
    zip(results, found if len(results) > 1 else (found,), strict=True)
  )


def _forward_by_xla(arrays, pad_before, epilogue):
  if epilogue.gradient:
    return _gradient_by_xla(**arrays, pad_before=pad_before, epilogue=epilogue)
  y = xla_depthwise.correlate(
    arrays['x'], arrays['kernel'], arrays.get('bias'), pad_before
  )
  if epilogue == Epilogue():
    return y
  if epilogue == Epilogue(residual=True):
    return y + arrays['residual']
  zeros = jnp.zeros(y.shape[-1])
  if epilogue.sums:
    return y, xla_norm.sums(y, zeros, None, epilogue.activation).sum(0)
  rows, no_rows = (
    jnp.broadcast_to(array, (y.shape[0], *array.shape))
    for array in (arrays['factor'], zeros)
  )
  return xla_norm.affine(
    y, zeros, rows, no_rows, arrays['residual'], epilogue.activation
  )


def _gradient_by_xla(x, kernel, z, coefficients, pad_before, epilogue):
  p, q, r = (
    jnp.broadcast_to(row, (x.shape[0], x.shape[-1])) for row in coefficients
  )
  zeros = jnp.zeros(x.shape[-1])
  dy, _ = xla_norm.gradient(z, zeros, x, p, q, r, epilogue.activation)
  return xla_depthwise.correlate(dy, kernel, None, pad_before) + x, dy


_FORWARD = {
  (operands, results): wrap('forward', operands, results)
  for operands, results in (
    (('x', 'kernel'), ('y',)),
    (('x', 'kernel', 'bias'), ('y',)),
    (('x', 'kernel', 'bias'), ('y', 'sums')),
    (('x', 'kernel', 'residual'), ('y',)),
    (('x', 'kernel', 'z', 'coefficients'), ('y', 'dy')),
    (('x', 'kernel', 'bias', 'factor', 'residual'), ('y',)),
  )
}
_kernel_gradient = wrap('kernel_gradient', ('x', 'dy'), ('sums',))
