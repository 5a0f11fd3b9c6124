"""Times depthwise convolutions in JAX: this project's and XLA's.

A program that answers one request of `cases.run_cases` with the approximate
duration of one timing, `turn_seconds`. Each case has a `shape` (the fields of a
`DepthwiseShape`), its `min_bytes`, a `variant` ('default', the name of an
implementation, or 'lax') and a `product`. Its row is measured in bfloat16.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax import kernels
from convmixer_jax.benchmarks.device import (
  depthwise_cases,
  lax_depthwise,
  streaming,
)


def calls_together(variant: str, count: int) -> int:
  """Returns how many of `count` images one compiled call processes.

  One for 'shift', which takes seconds to compile and much longer to run than
  the overhead of a call.
  """
  return 1 if variant == 'shift' else count


def create_product(
  variant: str, product: str
) -> Callable[[list[jax.Array], list[jax.Array], jax.Array], list[jax.Array]]:
  """Returns a function of images, gradients and a kernel, to be jitted.

  It computes the product for each of several images `[B, H, W, C]`, so that the
  work of one call takes longer than its overhead, and its inputs are not in a
  cache. The kernel `[k, k, C]` is float32, like parameters.
  """
  convolve = lax_depthwise.convolve
  if variant != 'lax':
    name = None if variant == 'default' else variant
    convolve = partial(kernels.depthwise_conv, backend=name)

  def compute(x, dy, kernel):
    if product == 'forward':
      return convolve(x, kernel)
    if product == 'kernel gradient':
      _, pull = jax.vjp(lambda kernel: convolve(x, kernel), kernel)
    else:
      _, pull = jax.vjp(lambda x: convolve(x, kernel), x)
    return pull(dy)[0]

  return lambda xs, dys, kernel: [
    compute(x, dy, kernel) for x, dy in zip(xs, dys, strict=True)
  ]


def _time(case, turn_seconds, buffers):
  xs, dys, kernel = buffers(case['shape'])
  function = jax.jit(create_product(case['variant'], case['product']))
  together = calls_together(case['variant'], len(xs))
  groups = [
    (xs[i : i + together], dys[i : i + together], kernel)
    for i in range(0, len(xs), together)
  ]

  def run_turns(count):
    for _ in range(count):
      for group in groups:
        results = function(*group)
    return jax.block_until_ready(results)

  start = time.perf_counter()
  results = run_turns(1)
  first = time.perf_counter()
  # Only one value, since correctness.py checks all of them.
  finite = math.isfinite(float(results[0][(0,) * results[0].ndim]))
  del results
  second = time.perf_counter()
  run_turns(1)
  seconds = time.perf_counter() - second
  calls = depthwise_cases.count_calls(seconds, turn_seconds)
  turns = []
  for _ in range(depthwise_cases.count_turns(seconds / len(xs))):
    start_of_turn = time.perf_counter()
    run_turns(calls)
    turns.append((time.perf_counter() - start_of_turn) / calls / len(xs))
  return {
    'microseconds': 1e6 * statistics.median(turns),
    'finite': finite,
    'first_call_seconds': first - start,
  }


def _create_buffers() -> Callable[[dict[str, int]], Any]:
  """Returns a function that draws the arrays of a shape, with a cache."""
  cached: dict[str, Any] = {}

  @partial(jax.jit, static_argnums=(1, 2))
  def draw(rng, size, dtype):
    return jax.random.normal(rng, size, dtype)

  def buffers(shape):
    key = str(shape)
    if key not in cached:
      cached.clear()
      size = (shape['batch'], *[shape['side']] * 2, shape['channels'])
      count = depthwise_cases.BUFFERS
      rngs = jax.random.split(jax.random.key(0), 2 * count + 1)
      images = [draw(rng, size, jnp.bfloat16) for rng in rngs[:-1]]
      kernel_size = (*[shape['kernel_size']] * 2, shape['channels'])
      kernel = draw(rngs[-1], kernel_size, jnp.float32)
      cached[key] = images[:count], images[count:], kernel
    return cached[key]

  return buffers


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  buffers = _create_buffers()
  return depthwise_cases.time_all(
    request, lambda case: _time(case, request['turn_seconds'], buffers)
  )


if __name__ == '__main__':
  streaming.serve(_work)
