"""Compares implementations with references in higher precision.

A program that answers one request of `cases.run_cases`, which also has `checks`
and `depthwise`, lists of fields of `DepthwiseShape`. Each output of an
operation has a row, with its relative error ||y - reference|| / ||reference||.
Inputs are random, with a new seed each time. Outputs are written to buffers
full of NaN: an incompletely written output has the error NaN, and fails. The
program ends after a check that raises an error, because a CUDA error persists
in its process.
"""

import itertools
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convmixer_jax.benchmarks.device import cases, operations, streaming
from convmixer_jax.benchmarks.device.settings import DepthwiseShape
from convmixer_jax.benchmarks.error_line import describe

_REFERENCE = 'reference'  # marks errors of the reference itself
# By dtype. bfloat16 rounds to 2^-9; float32 products use full precision.
LIMITS = {'float32': 5e-5, 'bfloat16': 1e-2}


def run_over_nan(
  function: Callable[..., Any], *arrays: jax.Array
) -> dict[str, jax.Array]:
  """Computes named outputs into buffers that are filled with NaN.

  Args:
    function: a function of the arrays that is not jitted.
    *arrays: its arguments.
  """
  shapes = jax.eval_shape(function, *arrays)
  # From the host, so that nothing has to be compiled.
  buffers = jax.device_put(
    jax.tree.map(
      lambda shape: np.full(shape.shape, np.nan, shape.dtype), shapes
    )
  )
  return jit_with_output_buffers(function)(buffers, *arrays)


def jit_with_output_buffers(function: Callable[..., Any]) -> Callable[..., Any]:
  """Jits a function with one more first argument: buffers for its outputs.

  XLA writes an output to a donated argument of the same shape and dtype.
  """
  return jax.jit(
    lambda buffers, *arrays: function(*arrays),
    donate_argnums=0,
    keep_unused=True,
  )


def relative_error(
  result: jax.Array, reference: np.ndarray | jax.Array
) -> float:
  """Returns ||result - reference|| / ||reference||, computed in float64."""
  difference = np.asarray(result, np.float64) - reference
  return float(np.linalg.norm(difference) / np.linalg.norm(reference))


@jax.jit
def _relative_errors_on_device(results, references):
  def norm(array):
    return jnp.sqrt(jnp.sum(jnp.square(array)))

  return {
    name: norm(results[name].astype(jnp.float32) - reference) / norm(reference)
    for name, reference in references.items()
  }


def relative_errors(
  results: dict[str, jax.Array], references: dict[str, np.ndarray | jax.Array]
) -> dict[str, float]:
  """Returns the relative errors by name.

  They are computed on the device in float32 if the references are there.
  """
  if all(isinstance(array, jax.Array) for array in references.values()):
    errors = jax.device_get(_relative_errors_on_device(results, references))
    return {name: float(error) for name, error in errors.items()}
  return {
    name: relative_error(result, references[name])
    for name, result in results.items()
  }


def compare(
  check: operations.Check,
  dtype: str,
  rng: np.random.Generator,
  implementations: Sequence[str | None] | None = None,
) -> Iterator[dict[str, Any]]:
  """Yields a row for each output of each implementation.

  An implementation that raises an error has one row, with the reason as
  `failed`.

  Args:
    check: the operation and its reference.
    dtype: dtype of the images.
    rng: draws the inputs.
    implementations: implementations to compare; None: all of the check that
      compute this dtype.
  """
  implementations = implementations or operations.implementations_of(
    check, dtype
  )
  rows = [
    _names(check, dtype, name) | {'limit': LIMITS[dtype]}
    for name in implementations
  ]
  try:
    arrays = operations.draw(check, jnp.dtype(dtype), rng)
    references = _compute_references(check, arrays)
  except Exception as error:  # from the compiler or the device
    for row in rows:
      reason = f'{_REFERENCE}: {describe(error)}'
      yield row | {'output': 'all', 'failed': reason}
    return
  for row, implementation in zip(rows, implementations, strict=True):
    try:
      # Otherwise float32 is multiplied as tf32 on a GPU, as bfloat16 on a TPU.
      precision = 'highest' if dtype == 'float32' else None
      with jax.default_matmul_precision(precision):
        outputs = run_over_nan(partial(check.run, implementation), *arrays)
      errors = relative_errors(outputs, references)
      del outputs
    except Exception as error:
      yield row | {'output': 'all', 'failed': describe(error)}
      continue
    for name, size in errors.items():
      passed = size <= LIMITS[dtype]  # False for NaN
      # JSON has no NaN.
      shown = size if math.isfinite(size) else None
      yield row | {'output': name, 'relative_error': shown, 'passed': passed}


def _names(check, dtype, implementation):
  return {
    'check': check.operation,
    'shape': check.shape,
    'dtype': dtype,
    'implementation': implementation or 'default',
  }


def _compute_references(check, arrays):
  if check.on_host:
    return check.reference(*(np.asarray(array, np.float64) for array in arrays))
  return jax.jit(
    lambda *arrays: check.reference(
      *(array.astype(jnp.float32) for array in arrays)
    )
  )(*arrays)


def create_cases(
  checks: Sequence[operations.Check],
) -> tuple[list[cases.Case], list[cases.Case]]:
  """Returns the cases of checks, in the order of their comparison.

  Returns:
    What users get: this project's kernels for GPUs, and the default where there
    are none; in the end what needs XLA's convolution, of which cuDNN chooses
    the algorithm for seconds. And the other implementations, last those that
    take seconds to compile. Where kernels compute, they are the default, too:
    that is checked once.
  """
  first, others = [], []
  default_is_checked = False
  for dtype, (number, check) in itertools.product(
    ('bfloat16', 'float32'), enumerate(checks)
  ):
    if dtype == 'float32' and not check.on_host:
      continue
    names = operations.implementations_of(check, dtype)
    own = [name for name in names if name in operations.custom_kernels('gpu')]
    chosen = own or names[:1]
    if own and not default_is_checked:
      chosen, default_is_checked = [*own, None], True
    for name in names:
      case = cases.Case(
        _names(check, dtype, name),
        {'number': number, 'dtype': dtype, 'implementation': name},
      )
      if name in chosen:
        first.append((_needs_xla(check, dtype, own), case))
      elif name is not None or not own:
        others.append((name == 'shift', case))
  return _in_order(first), _in_order(others)


def _in_order(pairs):
  """Returns the second of each pair, those whose first is False first."""
  return [case for _, case in sorted(pairs, key=lambda pair: pair[0])]


def _needs_xla(check, dtype, own):
  """Returns whether XLA computes the convolution of a check on a GPU."""
  if not operations.has_convolution(check):
    return False
  return dtype == 'float32' or (check.operation == 'depthwise' and not own)


def _work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
  checks = operations.create_checks(
    jax.default_backend(),
    [DepthwiseShape(**fields) for fields in request['checks']],
    [DepthwiseShape(**fields) for fields in request['depthwise']],
  )
  rng = np.random.default_rng(secrets.randbits(64))
  # The reference is computed once for all implementations in a group.
  for (number, dtype), group in itertools.groupby(
    request['cases'], lambda case: (case['number'], case['dtype'])
  ):
    numbers = {case['implementation']: case['case'] for case in group}
    if time.monotonic() > request['deadline']:
      for case in numbers.values():
        yield {'case': case, 'missing': 'no time was left'}
      continue
    failed = None
    for row in compare(checks[number], dtype, rng, list(numbers)):
      name = row['implementation']
      yield row | {'case': numbers[None if name == 'default' else name]}
      failed = row.get('failed')
      # If the reference failed, no implementation was tried.
      if failed and not failed.startswith(_REFERENCE):
        return
    if failed:
      return


if __name__ == '__main__':
  streaming.serve(_work)
