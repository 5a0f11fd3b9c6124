"""The pointwise product by the C++ kernels of csrc/linear.cc, in float32.

The functions have to be available (`library.unavailable`). Sharded images are
not moved; each device needs the whole kernel.
"""

import jax

from convmixer_jax.kernels.cpu.images_call import (
  IMAGES,
  ROOM,
  SUMS,
  WHOLE,
  call,
)

# The most floats in a vector of any CPU.
_LANES = 16


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and kernel `[I, O]`."""
  return biased_product(x, kernel, None, None, activation=None)


def biased_product(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  *,
  activation: str | None,
) -> jax.Array:
  """Computes `activation(x @ kernel + bias + residual)`; see `xla/biased.py`.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[I, O]`.
    bias: `[O]`, or None.
    residual: `[B, H, W, O]`, or None.
    activation: 'gelu', 'relu' or None.
  """
  (y,) = _product(x, kernel, *epilogue(bias, residual, activation))
  return y


def gelu_product(
  x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes GELU of `x @ kernel + bias`, and returns what it is of as well.

  Args:
    x: `[B, H, W, I]`.
    kernel: `[I, O]`.
    bias: `[O]`.
  """
  return _product(x, kernel, [(WHOLE, bias)], 'bias gelu before', results=2)


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[B, H, W, O]` and kernel `[I, O]`."""
  (y,) = _product(x, kernel, transposed=True)
  return y


def gelu_transposed_product(
  x: jax.Array, kernel: jax.Array, before: jax.Array
) -> jax.Array:
  """Computes `transposed_product` times the slope of GELU at `before`."""
  (y,) = _product(x, kernel, [(IMAGES, before)], 'slope_at', transposed=True)
  return y


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """Computes the gradient `[I, O]` of `product`'s kernel.

  Args:
    x: `[B, H, W, I]`.
    dy: `[B, H, W, O]`, the gradient of the product.
  """
  shape = x.shape[-1], dy.shape[-1]
  (gradient,) = call(
    'linear_gradient', [(IMAGES, x), (IMAGES, dy)], [(SUMS, shape)]
  )
  return gradient


def dense_gradients(x: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes `kernel_gradient`, and the gradient `[O]` of a bias."""
  shape = x.shape[-1], dy.shape[-1]
  if not shape[0]:  # there is nothing to multiply dy with, on the way
    return kernel_gradient(x, dy), dy.sum((0, 1, 2))
  results = [(SUMS, shape), (SUMS, shape[1:])]
  dkernel, dbias = call('linear_gradient', [(IMAGES, x), (IMAGES, dy)], results)
  return dkernel, dbias


def pack(kernel: jax.Array) -> jax.Array:
  """Returns the kernel `[I, O]` in the order of its use, as a `[P]`."""
  shape = packed_shape(*kernel.shape)
  (packed,) = call('pack', [(WHOLE, kernel)], [(WHOLE, shape)])
  return packed


def multiply(x: jax.Array, packed: jax.Array, columns: int) -> jax.Array:
  """Computes `x @ kernel` of x `[B, H, W, I]` and the result of `pack`.

  Args:
    x: the images.
    packed: the kernel.
    columns: O, of the kernel.
  """
  return biased_multiply(
    x, packed, None, None, columns=columns, activation=None
  )


def biased_multiply(
  x: jax.Array,
  packed: jax.Array,
  bias: jax.Array | None,
  residual: jax.Array | None,
  *,
  columns: int,
  activation: str | None,
) -> jax.Array:
  """Computes `biased_product` with the result of `pack`; see `multiply`."""
  operands, steps = epilogue(bias, residual, activation)
  (y,) = call(
    'multiply',
    [(IMAGES, x), (WHOLE, packed), *operands],
    [(IMAGES, (*x.shape[1:-1], columns))],
    steps=steps,
  )
  return y


def epilogue(
  bias: jax.Array | None,
  residual: jax.Array | None,
  activation: str | None,
) -> tuple[list[tuple[str, jax.Array]], str]:
  """Returns the operands of what follows a product, and its `steps`.

  Args are as in `biased_product`; csrc/epilogue_operands.h has the words.
  """
  operands, words = [], []
  if bias is not None:
    operands.append((WHOLE, bias))
    words.append('bias')
  if residual is not None:
    operands.append((IMAGES, residual))
    words.append('residual')
  if activation is not None:
    words.append(activation)
  return operands, ' '.join(words)


def packed_shape(inner: int, columns: int) -> tuple[int]:
  """Returns the shape of a packed kernel `[inner, columns]`."""
  return (inner * -(-columns // _LANES) * _LANES,)


def _product(x, kernel, operands=(), steps='', transposed=False, results=1):
  """Returns the product and, of two results, what is before its activation."""
  inner, columns = kernel.shape[::-1] if transposed else kernel.shape
  y = IMAGES, (*x.shape[1:-1], columns)
  return call(
    'product',
    [(IMAGES, x), (WHOLE, kernel), *operands],
    [y, (ROOM, packed_shape(inner, columns)), *[y] * (results - 1)],
    transposed=transposed,
    steps=steps,
  )
