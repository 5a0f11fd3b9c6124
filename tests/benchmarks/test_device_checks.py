"""The device benchmark: correctness checks, programs for GPUs, roofline."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.benchmarks.device import (
  correctness,
  depthwise_cases,
  depthwise_jax,
  device_references,
  operations,
  references,
  report,
  roofline,
)
from convmixer_jax.benchmarks.device.settings import (
  FULL,
  QUICK,
  DepthwiseShape,
)


def test_roofline_is_right_with_and_without_hidden_passes():
  # [64, 32, 32, 768] at 3 TB/s: a pass takes 33.55 us, the three products
  # 331.3 us at 700 TFLOP/s, more than their six passes.
  shape = FULL.networks['768/32']
  seconds = roofline.step_seconds(shape, 'train', 3e12, 700e12)
  assert seconds == pytest.approx(32 * (331.3e-6 + 18 * 33.55e-6), rel=1e-3)
  # [512, 16, 16, 256]: six passes of 22.37 us, more than the products.
  shape = FULL.networks['256/8']
  seconds = roofline.step_seconds(shape, 'train', 3e12, 700e12)
  assert seconds == pytest.approx(8 * 24 * 22.37e-6, rel=1e-3)
  seconds = roofline.step_seconds(shape, 'forward', 3e12, 700e12)
  assert seconds == pytest.approx(8 * 4 * 22.37e-6, rel=1e-3)


def test_new_implementations_count_as_kernels_for_gpus(monkeypatch):
  assert set(operations.PLAIN) <= set(kernels.BACKENDS)
  assert operations.custom_kernels('gpu') == ['cuda']
  names = (*operations.PLAIN, 'new')
  monkeypatch.setattr(operations.kernels, 'BACKENDS', names)
  assert operations.custom_kernels('gpu') == ['new']
  assert operations.implementations('gpu') == [None, 'shift', 'xla', 'new']
  assert operations.implementations('tpu') == [None, 'shift']
  assert operations.implementations('cpu') == [None, *operations.PLAIN]


def test_kernels_for_gpus_are_checked_with_what_they_support():
  checks = operations.create_checks('gpu', FULL.checks, FULL.depthwise)
  found = {
    check.shape: 'cuda' in check.implementations
    for check in checks
    if check.operation == 'depthwise'
  }
  assert found.pop('[3,7,7,24] k3') is False  # 24 channels
  assert len(found) == 7
  assert all(found.values())
  first, others = correctness.create_cases(checks)
  by_kernels = [c for c in first if c.names['implementation'] == 'cuda']
  assert {case.names['dtype'] for case in by_kernels} == {'bfloat16'}
  assert len(by_kernels) == 7
  # They are the default, too, which is compared on one shape only.
  defaults = [
    case.names['shape']
    for case in first
    if (case.names['check'], case.names['dtype'], case.names['implementation'])
    == ('depthwise', 'bfloat16', 'default')
  ]
  assert defaults == ['[16,32,32,64] k7', '[3,7,7,24] k3']
  # Last what needs cuDNN, which is slow to choose.
  names = [tuple(case.names.values()) for case in first]
  slow = names.index(('depthwise', '[3,7,7,24] k3', 'bfloat16', 'default'))
  assert all(dtype == 'float32' for *_, dtype, _ in names[slow + 1 :])
  assert all(name != 'cuda' for *_, name in names[slow:])
  assert {c.names['implementation'] for c in others} == {'xla', 'shift'}


def linear_check(run_linear):
  (check,) = [
    check
    for check in operations.create_checks('cpu', QUICK.checks[:1], ())
    if check.operation == 'linear'
  ]
  wrapped = dataclasses.replace(check, implementations=[None])
  return dataclasses.replace(
    wrapped, run=lambda *arrays: run_linear(check.run(*arrays))
  )


@pytest.mark.parametrize(
  ('change', 'passes'),
  [
    (lambda y: y, True),
    (lambda y: y * 1.001, False),
    (lambda y: y.at[0, 0, 0, 0].set(jnp.nan), False),
  ],
)
def test_wrong_and_unwritten_values_do_not_pass(change, passes):
  check = linear_check(lambda out: out | {'forward': change(out['forward'])})
  rows = list(correctness.compare(check, 'float32', np.random.default_rng(0)))
  passed = {row['output']: row['passed'] for row in rows}
  assert passed.pop('forward') == passes
  assert all(passed.values())
  json.loads(json.dumps(rows, allow_nan=False))
  table = report.format_results(
    [{'stage': 'correctness', **row} for row in rows]
  )
  assert ('**no**' in table) is not passes


def test_process_stops_after_a_check_that_raises():
  shapes = [dataclasses.asdict(shape) for shape in QUICK.checks[:1]]
  checks = operations.create_checks('cpu', QUICK.checks[:1], ())
  first, others = correctness.create_cases(checks)
  cases = first + others
  names = [tuple(case.names.values()) for case in cases]
  assert len(set(names)) == len(names)
  assert cases[-1].names['implementation'] == 'shift'
  request = {
    'checks': shapes,
    'depthwise': [],
    'deadline': time.monotonic() + 6000,
    'cases': [case.request | {'case': n} for n, case in enumerate(cases)],
  }
  # An unknown implementation raises.
  request['cases'][1]['implementation'] = 'none such'
  rows = list(correctness._work(request))
  assert {row['case'] for row in rows} == {0, 1}
  assert 'passed' in rows[0]
  assert 'ValueError' in rows[-1]['failed']
  request['deadline'] = time.monotonic() - 1
  rows = list(correctness._work(request))
  assert [row['case'] for row in rows] == list(range(len(cases)))
  assert {row['missing'] for row in rows} == {'no time was left'}


def test_outputs_are_written_to_the_buffers_full_of_nan():
  x = jnp.ones((4, 8))
  buffers = {'y': x, 'sum': x[0]}
  compiled = (
    correctness.jit_with_output_buffers(lambda x: {'y': 2 * x, 'sum': x.sum(0)})
    .lower(buffers, x)
    .compile()
  )
  analysis = compiled.memory_analysis()
  assert analysis.alias_size_in_bytes == x.nbytes + x[0].nbytes


def lower_for_cuda(function, *arrays):
  traced = jax.jit(function).trace(*arrays)
  return traced.lower(lowering_platforms=('cuda',)).as_text()


def test_checks_can_be_lowered_for_cuda():
  shapes = QUICK.checks[:1]
  checks = operations.create_checks('gpu', shapes, shapes)
  assert {check.operation for check in checks} >= {'depthwise', 'linear'}
  for check in checks:
    arrays = operations.draw(check, jnp.bfloat16, np.random.default_rng(0))
    for name in check.implementations:
      text = lower_for_cuda(lambda *a, c=check, n=name: c.run(n, *a), *arrays)
      assert 'convmixer_' not in text  # no kernel for CPUs


@pytest.mark.parametrize('product', depthwise_cases.PRODUCTS)
@pytest.mark.parametrize('size', [3, 9])
@pytest.mark.parametrize(
  'variant',
  [
    'default',
    *(pytest.param(v, marks=pytest.mark.slow) for v in ('shift', 'lax')),
  ],
)
def test_products_can_be_lowered_for_cuda(variant, size, product):
  images = [jax.ShapeDtypeStruct((2, 4, 4, 8), jnp.bfloat16)] * 4
  kernel = jax.ShapeDtypeStruct((size, size, 8), jnp.float32)
  function = depthwise_jax.create_product(variant, product)
  text = lower_for_cuda(function, images, images, kernel)
  assert 'convmixer_' not in text
  shifts = variant == 'shift' or (variant == 'default' and size == 9)
  assert ('stablehlo.convolution' in text) is not shifts
  together = depthwise_jax.calls_together(variant, 4)
  assert together == (1 if variant == 'shift' else 4)


def test_depthwise_moves_the_bytes_of_two_arrays():
  shape = DepthwiseShape(64, 32, 768, 7)
  assert shape.min_bytes == 2 * 64 * 32 * 32 * 768 * 2


@pytest.mark.parametrize('size', [4, 5])
def test_reference_on_the_device_is_that_on_the_host(size):
  rng = np.random.default_rng(0)
  shapes = (2, 6, 7, 3), (size, size, 3), (3,), (2, 6, 7, 3)
  arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
  found = jax.jit(device_references.depthwise)(*arrays)
  expected = references.depthwise(*map(np.float64, arrays))
  assert set(found) == set(expected)
  for name, value in expected.items():
    assert correctness.relative_error(found[name], value) < 1e-6
