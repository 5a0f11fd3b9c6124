"""Fast normal noise for random erasing.

XLA:CPU does not fuse `jax.random.normal` with its consumer: 20 rounds of
Threefry through memory, ten times the cost of all other preprocessing. Here a
number is a function of the key of its image and its position in the image,
cheap enough to be computed where it is used, in one pass over the pixels. So it
is also the same on any number of devices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# z / u as a polynomial in sqrt(-log(1 - u^2)), highest power first, where z is
# the normal quantile of (1 + u) / 2: a least-squares fit whose weights even out
# the error of the distribution function (below 2e-5) up to |u| = 1 - 2^-24.
_QUANTILE = (
  -0.0013154,
  0.017433,
  -0.083655,
  0.16607,
  -0.13657,
  0.39158,
  -0.013481,
  1.2543,
)


def normal_noise(rng: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws independent numbers from N(0, 1).

  Args:
    rng: key of this step and purpose.
    shape: `[B, ...]`, the first axis being that of images.

  Returns:
    Of that shape, float32.
  """
  keys = jax.random.bits(rng, (2, shape[0], *[1] * (len(shape) - 1)))
  position = jnp.zeros(shape, jnp.uint32)
  for axis in range(1, len(shape)):
    position *= np.uint32(shape[axis])
    position += lax.broadcasted_iota(jnp.uint32, shape, axis)
  bits = _scramble(_scramble(position + keys[0]) ^ keys[1])
  # 23 bits, as odd multiples of 2^-23 in (-1, 1).
  odd = (bits >> np.uint32(9) << np.uint32(1)).astype(jnp.int32) - (2**23 - 1)
  return _normal_quantile(odd.astype(jnp.float32) * np.float32(2**-23))


def _scramble(x):
  """The finalizer of MurmurHash3: each bit of the result depends on all."""
  x ^= x >> np.uint32(16)
  x *= np.uint32(0x85EBCA6B)
  x ^= x >> np.uint32(13)
  x *= np.uint32(0xC2B2AE35)
  return x ^ (x >> np.uint32(16))


def _normal_quantile(u):
  """Turns u, uniform over (-1, 1), into a number from N(0, 1).

  `lax.erf_inv` is exact, and takes twice as long as everything else here.
  """
  s = jnp.sqrt(-jnp.log((1 - u) * (1 + u)))
  ratio = jnp.zeros_like(s)
  for coefficient in _QUANTILE:
    ratio = ratio * s + np.float32(coefficient)
  return ratio * u
