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
  return _product(x, kernel, *epilogue(bias, residual, activation))


def transposed_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Computes `x @ kernel.T` of x `[B, H, W, O]` and kernel `[I, O]`."""
  return _product(x, kernel, transposed=True)


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
  given = ('bias', WHOLE, bias), ('residual', IMAGES, residual)
  given = [one for one in given if one[-1] is not None]
  words = [name for name, _, _ in given] + [activation] * bool(activation)
  return [(kind, array) for _, kind, array in given], ' '.join(words)


def packed_shape(inner: int, columns: int) -> tuple[int]:
  """Returns the shape of a packed kernel `[inner, columns]`."""
  return (inner * -(-columns // _LANES) * _LANES,)


def _product(x, kernel, operands=(), steps='', *, transposed=False):
  inner, columns = kernel.shape[::-1] if transposed else kernel.shape
  (y,) = call(
    'product',
    [(IMAGES, x), (WHOLE, kernel), *operands],
    [
      (IMAGES, (*x.shape[1:-1], columns)),
      (ROOM, packed_shape(inner, columns)),
    ],
    transposed=transposed,
    steps=steps,
  )
  return y
