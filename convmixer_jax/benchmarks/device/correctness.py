"""Compares implementations with references in higher precision.

A program: it answers one request, a line of JSON with `checks` and `depthwise`,
lists of the fields of `DepthwiseShape`, and the `limit` in seconds after which
it begins no other check. Each output of an operation is a row, with its
relative error ||y - reference|| / ||reference||. Inputs are drawn from fresh
random numbers. Outputs go into buffers full of NaN: one that is not written in
whole has an error of NaN, and does not pass.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.benchmarks.device import operations, streaming
from convmixer_jax.benchmarks.device.settings import DepthwiseShape

# By dtype. bfloat16 rounds to 2^-9; products in float32 are asked to be exact.
LIMITS = {'float32': 5e-5, 'bfloat16': 1e-2}


def run_over_nan(
  function: Callable[..., Any], *arrays: jax.Array
) -> dict[str, jax.Array]:
  """Computes named outputs into buffers that are filled with NaN.

  Args:
    function: of the arrays, not jitted.
    *arrays: its arguments.
  """
  shapes = jax.eval_shape(function, *arrays)
  buffers = jax.tree.map(
    lambda shape: jnp.full(shape.shape, jnp.nan, shape.dtype), shapes
  )
  return into_donated(function)(buffers, *arrays)


def into_donated(function: Callable[..., Any]) -> Callable[..., Any]:
  """Jits a function, which gets its outputs' buffers as the first argument.

  XLA puts an output where a donated argument of its shape and dtype was.
  """
  return jax.jit(
    lambda buffers, *arrays: function(*arrays),
    donate_argnums=0,
    keep_unused=True,
  )


def relative_error(
  result: jax.Array, reference: np.ndarray | jax.Array
) -> float:
  """Returns ||result - reference|| / ||reference||.

  It is computed in float64 on the host if the reference is there, else in
  float32 on the device.
  """
  if isinstance(reference, jax.Array):
    return float(_relative_error_on_device(result, reference))
  difference = np.asarray(result, np.float64) - reference
  return float(np.linalg.norm(difference) / np.linalg.norm(reference))


@jax.jit
def _relative_error_on_device(result, reference):
  difference = result.astype(jnp.float32) - reference
  squares = (jnp.sum(jnp.square(a)) for a in (difference, reference))
  return jnp.sqrt(next(squares) / next(squares))


def compare(
  check: operations.Check, dtype: str, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
  """Yields a row for each output of each implementation."""
  arrays = operations.draw(check, jnp.dtype(dtype), rng)
  if check.on_host:
    wide = [np.asarray(array, np.float64) for array in arrays]
    reference = check.reference(*wide)
  else:
    wide = [array.astype(jnp.float32) for array in arrays]
    reference = jax.jit(check.reference)(*wide)
    del wide
  for implementation in check.implementations:
    row = {
      'check': check.operation,
      'shape': check.shape,
      'dtype': dtype,
      'implementation': implementation or 'default',
      'limit': LIMITS[dtype],
    }
    try:
      # Else float32 is multiplied as tf32 on a GPU, as bfloat16 on a TPU.
      precision = 'highest' if dtype == 'float32' else None
      with jax.default_matmul_precision(precision):
        outputs = run_over_nan(partial(check.run, implementation), *arrays)
      errors = {
        name: relative_error(output, reference[name])
        for name, output in outputs.items()
      }
      del outputs
    except Exception as error:  # of the compiler or the device
      yield row | {'output': 'all', 'missing': streaming.describe(error)}
      continue
    for name, error in errors.items():
      passed = error <= LIMITS[dtype]  # NaN does not
      # NaN is not JSON.
      shown = error if math.isfinite(error) else None
      yield row | {'output': name, 'relative_error': shown, 'passed': passed}


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  start = time.monotonic()
  checks = operations.create_checks(
    jax.default_backend(),
    [DepthwiseShape(**fields) for fields in request['checks']],
    [DepthwiseShape(**fields) for fields in request['depthwise']],
  )
  rng = np.random.default_rng(secrets.randbits(64))
  # First what training computes; the large shapes are those that are timed.
  pairs = [
    (dtype, check)
    for dtype in ('bfloat16', 'float32')
    for check in checks
    if check.on_host or dtype == 'bfloat16'
  ]
  for dtype, check in pairs:
    if time.monotonic() - start < request['limit']:
      yield from compare(check, dtype, rng)
    else:
      yield {
        'check': check.operation,
        'shape': check.shape,
        'dtype': dtype,
        'output': 'all',
        'missing': 'no time was left',
      }


if __name__ == '__main__':
  streaming.serve(_work)
