"""Runs each of this project's kernels for GPUs once, on tiny arrays.

A program to run under NVIDIA's compute-sanitizer, which makes it much slower.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.benchmarks.device import operations
from convmixer_jax.benchmarks.device.settings import DepthwiseShape

_SHAPES = (DepthwiseShape(16, 16, 16, 5), DepthwiseShape(16, 16, 16, 9))


def main() -> None:
  """Runs the kernels in bfloat16."""
  rng = np.random.default_rng(0)
  platform = jax.default_backend()
  custom = operations.custom_kernels(platform)
  for check in operations.create_checks(platform, _SHAPES, ()):
    if not operations.has_convolution(check):
      continue
    # What is fused with a convolution has no name of its own: the default.
    names: list[str | None] = [
      name for name in check.implementations if name in custom
    ]
    for name in names or [None]:
      arrays = operations.draw(check, jnp.bfloat16, rng)
      run = jax.jit(partial(check.run, name))
      jax.block_until_ready(run(*arrays))
      print(check.operation, check.shape, name or 'default', flush=True)


if __name__ == '__main__':
  main()
