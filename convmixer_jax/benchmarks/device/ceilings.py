"""Reports the device and measures its peak rates of copies and products.

A program that answers one request, a line of JSON with `copy_mib`,
`product_size` and `on_cpu`, whether to measure without an accelerator too. For
the request null it only reports the device.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from convmixer_jax.benchmarks.device import streaming

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_CALLS, _TURNS = 10, 3


def _work(request: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
  device = jax.devices()[0]
  yield {
    'platform': jax.default_backend(),
    'device': device.device_kind,
    'devices': jax.device_count(),
    'memory_limit': (device.memory_stats() or {}).get('bytes_limit'),
    'versions': {name: metadata.version(name) for name in _PACKAGES}
    | {'python': platform.python_version()},
  }
  if request is None or (
    jax.default_backend() == 'cpu' and not request['on_cpu']
  ):
    return
  rng = jax.random.key(0)
  count = request['copy_mib'] * 2**19
  array = jax.random.normal(rng, (count,), jnp.bfloat16)
  # The faster of a plain copy and of one that passes through the cores.
  rate = max(
    2 * array.nbytes / _seconds(jax.jit(function), array)
    for function in (jnp.copy, jnp.negative)
  )
  del array
  yield {'ceiling': 'copy', 'gb_per_sec': rate / 1e9}
  size = request['product_size']
  matrices = jax.random.normal(rng, (2, size, size), jnp.bfloat16)
  seconds = _seconds(jax.jit(jnp.matmul), *matrices)
  yield {'ceiling': 'product', 'tflops': 2 * size**3 / seconds / 1e12}


def _seconds(function: Callable[..., jax.Array], *arrays: jax.Array) -> float:
  """Returns the seconds of a call, as the median of several turns."""
  turns = []
  jax.block_until_ready(function(*arrays))
  for _ in range(_TURNS):
    start = time.perf_counter()
    for _ in range(_CALLS):
      result = function(*arrays)
    jax.block_until_ready(result)
    turns.append((time.perf_counter() - start) / _CALLS)
    del result
  return statistics.median(turns)


if __name__ == '__main__':
  streaming.serve(_work)
