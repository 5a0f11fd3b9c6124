"""The maximum of 3 x 3 positions by the C++ kernels of csrc/max_pool.h.

The functions have the interface that every backend's have (`xla/max_pool.py`),
for float32. They have to be available (`library.unavailable`). Sharded images
are not moved.
"""

import jax

from convmixer_jax.kernels.cpu.images_call import IMAGES, call


def max_pool(x: jax.Array) -> jax.Array:
  """Returns the maxima of 3 x 3 positions around every second one."""
  _, height, width, channels = x.shape
  (y,) = call(
    'max_pool',
    [(IMAGES, x)],
    [(IMAGES, ((height + 1) // 2, (width + 1) // 2, channels))],
  )
  return y


def gradient(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
  """Returns the gradient of x, that of the maxima y being g."""
  (dx,) = call(
    'max_pool_gradient',
    [(IMAGES, x), (IMAGES, y), (IMAGES, g)],
    [(IMAGES, x.shape[1:])],
  )
  return dx
