"""The operations whose implementations are compared with references.

New names in `kernels.BACKENDS` are compared automatically: all but those in
`PLAIN` count as kernels for GPUs, which also run under NVIDIA's
compute-sanitizer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax import kernels
from convmixer_jax.benchmarks.device import device_references, references
from convmixer_jax.benchmarks.device.settings import DepthwiseShape
from convmixer_jax.kernels.gpu import instances

PLAIN = ('cpu', 'shift', 'xla')
_GROUP_SIZE, _EPSILON = 2, 1e-5

Named = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Check:
  """An operation on arrays of one shape.

  Attributes:
    operation: name of the operation.
    shape: shape of the images, as text.
    implementations: names of implementations, or None for the default.
    sizes: shapes of the arrays; those with four axes have the dtype of the
      images, the others are float32.
    rounded: indices of the arrays whose values are rounded to that dtype.
    run: computes named outputs, given the implementation and the arrays.
    reference: computes the same outputs in higher precision.
    on_host: whether the reference is computed in float64 by NumPy, else in
      float32 on the device.
  """

  operation: str
  shape: str
  implementations: Sequence[str | None]
  sizes: Sequence[tuple[int, ...]]
  rounded: Sequence[int]
  run: Callable[..., Named]
  reference: Callable[..., dict[str, np.ndarray]]
  on_host: bool = True


def implementations(platform: str) -> list[str | None]:
  """Returns None for the default, and the names of the other implementations.

  On a GPU all are named, because what is the default depends on what can be
  compiled there.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
  """
  if platform == 'cpu':  # checking all of them takes little time here
    names = set(PLAIN)
  elif platform == 'gpu':
    names = {'shift', 'xla', *custom_kernels(platform)}
  else:
    names = {'shift'}  # XLA's own is the default
  return [None, *(name for name in kernels.BACKENDS if name in names)]


def custom_kernels(platform: str) -> list[str]:
  """Returns the names of implementations that are kernels for a GPU.

  They are for bfloat16.
  """
  if platform != 'gpu':
    return []
  return [name for name in kernels.BACKENDS if name not in PLAIN]


def implementations_of(check: Check, dtype: str) -> list[str | None]:
  """Returns the implementations of a check that compute images of a dtype."""
  others = () if dtype == 'bfloat16' else custom_kernels('gpu')
  return [name for name in check.implementations if name not in others]


def has_convolution(check: Check) -> bool:
  """Returns whether an operation has a depthwise kernel `[k, k, C]`."""
  return any(len(size) == 3 for size in check.sizes)


def create_checks(
  platform: str,
  on_host: Sequence[DepthwiseShape],
  on_device: Sequence[DepthwiseShape],
) -> list[Check]:
  """Returns the checks of all operations.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
    on_host: shapes of the depthwise convolution with a reference in float64 on
      the host; the other operations are checked with the first shape.
    on_device: shapes of the depthwise convolution with a reference on the
      device in float32; checked in bfloat16 only.
  """
  # Only CPUs have two implementations of the other operations.
  others = [None, 'xla'] if platform == 'cpu' else [None]
  checks = [
    _depthwise(shape, _computing(platform, shape), is_on_host)
    for shapes, is_on_host in ((on_host, True), (on_device, False))
    for shape in shapes
  ]
  checks += [
    make(on_host[0], activation, others)
    for make in (_batch_norm, _residual_depthwise, _mixer)
    for activation in kernels.ACTIVATIONS
  ]
  return checks + [_linear(on_host[0], others)]


def _computing(platform, shape):
  """Returns those of `implementations` that can compute a shape."""
  unsupported = instances.supported(
    'forward',
    _images(shape),
    shape.kernel_size,
    (shape.kernel_size - 1) // 2,
  )
  others = custom_kernels(platform) if unsupported else ()
  return [name for name in implementations(platform) if name not in others]


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
    references.depthwise if on_host else device_references.depthwise,
    on_host,
  )


def _batch_norm(shape, activation, names):
  options = {
    'activation': activation,
    'group_size': _GROUP_SIZE if shape.batch % _GROUP_SIZE == 0 else 1,
    'epsilon': _EPSILON,
  }

  def run(implementation, x, bias, scale, offset, residual, dy):
    def normalise(x, bias, scale, offset):
      return kernels.activation_batch_norm(
        *(x, bias, scale, offset, residual),
        backend=implementation,
        **options,
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
    partial(references.batch_norm, **options),
  )


def _residual_depthwise(shape, activation, names):
  # Over the whole batch, as kernels for GPUs sum.
  options = {'activation': activation, 'epsilon': _EPSILON}

  def run(implementation, *arrays):
    *inputs, dy = arrays

    def layer(*arguments):
      return kernels.residual_depthwise(
        *arguments,
        group_size=shape.batch,
        depthwise=implementation,
        backend=implementation,
        **options,
      )[0]

    names = 'input', 'kernel', 'bias', 'scale', 'offset'
    return _with_gradients(layer, inputs, dy, names)

  images, vector = _images(shape), (shape.channels,)
  return Check(
    f'{activation} layer in training',
    str(shape),
    names,
    (images, _kernel(shape), vector, vector, vector, images),
    (0, 1, 2, 5),
    run,
    partial(references.residual_depthwise, **options),
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


def _with_gradients(function, inputs, dy, names):
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
  """Draws the arrays of a check from the normal distribution.

  Images have the given dtype. The others are float32, like parameters, but
  their values are rounded to that dtype where the operation rounds them.
  """

  def convert(arrays):
    for number, array in enumerate(arrays):
      if number in check.rounded:
        array = array.astype(dtype)
      yield array if array.ndim == 4 else array.astype(np.float32)

  if check.on_host:  # small arrays are not worth a compilation
    arrays = [rng.standard_normal(size, np.float32) for size in check.sizes]
    return jax.device_put(list(convert(arrays)))

  @jax.jit
  def draw_all(key):
    keys = jax.random.split(key, len(check.sizes))
    arrays = map(jax.random.normal, keys, check.sizes)
    return list(convert(arrays))

  return draw_all(jax.random.key(rng.integers(2**32)))
