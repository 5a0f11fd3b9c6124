"""The operations whose implementations are compared with references.

A new implementation appears here by its name in `kernels.BACKENDS`: all but
those in `PLAIN` count as kernels for GPUs, which also run under NVIDIA's
compute-sanitizer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convmixer_jax import kernels
from convmixer_jax.benchmarks.device import lax_depthwise, references
from convmixer_jax.benchmarks.device.settings import DepthwiseShape
from convmixer_jax.kernels.backends import best_xla_form_on_gpu

PLAIN = ('cpu', 'shift', 'xla')
_GROUP_SIZE, _EPSILON = 2, 1e-5

Named = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Check:
  """An operation on arrays of one shape.

  Attributes:
    operation: its name.
    shape: of the images, as text.
    implementations: names, or None for the default.
    sizes: of the arrays it takes; those with four axes and `kernels` have the
      dtype of the images' values.
    rounded: numbers of the arrays that are rounded to the images' dtype.
    run: computes named outputs, given the implementation and the arrays.
    reference: computes the same outputs in higher precision.
    on_host: whether the reference takes NumPy's float64, else the device's
      float32.
  """

  operation: str
  shape: str
  implementations: Sequence[str | None]
  sizes: Sequence[tuple[int, ...]]
  rounded: Sequence[int]
  run: Callable[..., Named]
  reference: Callable[..., dict[str, np.ndarray]]
  on_host: bool = True


def implementations(platform: str, kernel_size: int) -> list[str | None]:
  """Returns the default, as None, and the names of all others of a platform.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
    kernel_size: side of the depthwise kernels, which the default depends on.
  """
  if platform == 'cpu':  # here all of them are cheap to check
    return [None, *(name for name in kernels.BACKENDS if name in PLAIN)]
  names = {'shift', 'xla', *custom_kernels(platform)}
  names -= {best_on_accelerator(platform, kernel_size)}
  return [None, *(name for name in kernels.BACKENDS if name in names)]


def best_on_accelerator(platform: str, kernel_size: int) -> str:
  """Returns the implementation that is the default on 'gpu' or 'tpu'."""
  return best_xla_form_on_gpu(kernel_size) if platform == 'gpu' else 'xla'


def custom_kernels(platform: str) -> list[str]:
  """Returns the implementations that are kernels for an accelerator."""
  if platform != 'gpu':
    return []
  return [name for name in kernels.BACKENDS if name not in PLAIN]


def create_checks(
  platform: str,
  on_host: Sequence[DepthwiseShape],
  on_device: Sequence[DepthwiseShape],
) -> list[Check]:
  """Returns what is to be compared.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
    on_host: shapes of the depthwise convolution whose reference is computed in
      float64 on the host; the other operations are compared on the first.
    on_device: shapes whose reference is a convolution of XLA's in float32 on
      the device; the depthwise convolution only, in bfloat16.
  """
  # Only a CPU has two implementations of the others.
  others = [None, 'xla'] if platform == 'cpu' else [None]
  checks = [
    _depthwise(shape, implementations(platform, shape.kernel_size), is_on_host)
    for shapes, is_on_host in ((on_host, True), (on_device, False))
    for shape in shapes
  ]
  checks += [
    make(on_host[0], activation, others)
    for make in (_batch_norm, _mixer)
    for activation in kernels.ACTIVATIONS
  ]
  return checks + [_linear(on_host[0], others)]


def _images(shape: DepthwiseShape) -> tuple[int, int, int, int]:
  return shape.batch, shape.side, shape.side, shape.channels


def _kernel(shape: DepthwiseShape) -> tuple[int, int, int]:
  return shape.kernel_size, shape.kernel_size, shape.channels


def _depthwise(shape, names, on_host):
  def run(implementation, x, kernel, bias, dy):
    convolve = partial(kernels.depthwise_conv, backend=implementation)
    return _with_gradients(
      convolve, (x, kernel, bias), dy, ('input', 'kernel', 'bias')
    )

  images, vector = _images(shape), (shape.channels,)
  return Check(
    'depthwise',
    str(shape),
    names,
    (images, _kernel(shape), vector, images),
    (0, 1, 2, 3),
    run,
    references.depthwise if on_host else _depthwise_by_xla,
    on_host,
  )


def _depthwise_by_xla(x, kernel, bias, dy):
  """The reference on the device: all operands are float32."""

  def convolve(x, kernel, bias):
    y = lax_depthwise.convolve(x, kernel, lax.Precision.HIGHEST)
    return y + bias

  return _with_gradients(
    convolve, (x, kernel, bias), dy, ('input', 'kernel', 'bias')
  )


def _batch_norm(shape, activation, names):
  how = {
    'activation': activation,
    'group_size': _GROUP_SIZE if shape.batch % _GROUP_SIZE == 0 else 1,
    'epsilon': _EPSILON,
  }

  def run(implementation, x, bias, scale, offset, residual, dy):
    def normalise(x, bias, scale, offset):
      return kernels.activation_batch_norm(
        x, bias, scale, offset, residual, backend=implementation, **how
      )[0]

    inputs = x, bias, scale, offset
    names = 'input', 'bias', 'scale', 'offset'
    return _with_gradients(normalise, inputs, dy, names)

  images, vector = _images(shape), (shape.channels,)
  return Check(
    f'{activation} and BatchNorm',
    str(shape),
    names,
    (images, vector, vector, vector, images, images),
    (0, 4, 5),
    run,
    partial(references.batch_norm, **how),
  )


def _mixer(shape, activation, names):
  def run(implementation, *arrays):
    y = kernels.fused_mixer(
      *arrays, activation=activation, backend=implementation
    )
    return {'forward': y}

  images, vector = _images(shape), (shape.channels,)
  return Check(
    f'mixer with {activation}',
    str(shape),
    names,
    (images, vector, vector, vector, _kernel(shape), vector, vector),
    (0, 4, 5),
    run,
    partial(references.mixer, activation=activation),
  )


def _linear(shape, names):
  def run(implementation, x, kernel, dy):
    multiply = partial(kernels.linear, backend=implementation)
    return _with_gradients(multiply, (x, kernel), dy, ('input', 'kernel'))

  images, columns = _images(shape), shape.channels // 2
  return Check(
    'linear',
    str(shape),
    names,
    (images, (shape.channels, columns), (*images[:3], columns)),
    (0, 1, 2),
    run,
    references.linear,
  )


def _with_gradients(function, inputs, dy, names) -> Named:
  y, pull = jax.vjp(function, *inputs)
  gradients = pull(dy.astype(y.dtype))
  named = {
    f'{name} gradient': gradient
    for name, gradient in zip(names, gradients, strict=True)
  }
  return {'forward': y} | named


def draw(
  check: Check, dtype: jnp.dtype, rng: np.random.Generator
) -> list[jax.Array]:
  """Draws the arrays that a check takes, from the normal distribution.

  Those that are images have the dtype; the others are float32, as parameters
  are, but have values that the dtype holds where the operation rounds them.
  """

  def give_dtype(arrays):
    for number, array in enumerate(arrays):
      if number in check.rounded:
        array = array.astype(dtype)
      yield array if array.ndim == 4 else array.astype(np.float32)

  if check.on_host:  # small: nothing is to be compiled for it
    arrays = [rng.standard_normal(size, np.float32) for size in check.sizes]
    return jax.device_put(list(give_dtype(arrays)))

  @jax.jit
  def draw_all(key):
    keys = jax.random.split(key, len(check.sizes))
    arrays = map(jax.random.normal, keys, check.sizes)
    return list(give_dtype(arrays))

  return draw_all(jax.random.key(rng.integers(2**32)))
