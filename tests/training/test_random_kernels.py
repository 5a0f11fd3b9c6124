"""The first state of a run on a GPU, which is compiled in seconds."""

import jax
import numpy as np
import pytest

from convmixer_jax.training import random_kernels

KERNEL = 'cu_threefry2x32'


def draw(seed=3):
  return jax.random.uniform(jax.random.key(seed), (5, 7))


def lowered_for_cuda():
  return jax.jit(draw).trace().lower(lowering_platforms=('cuda',)).as_text()


def test_random_bits_are_a_kernel_meanwhile_and_not_afterwards():
  assert KERNEL not in lowered_for_cuda()
  with random_kernels.random_kernels():
    assert KERNEL in lowered_for_cuda()
  assert KERNEL not in lowered_for_cuda()


def test_jax_without_the_option_draws_as_before(monkeypatch):
  monkeypatch.setattr(random_kernels, '_OPTION', 'jax_no_such_option')
  with random_kernels.random_kernels():
    assert KERNEL not in lowered_for_cuda()


@pytest.mark.parametrize('works', [True, False])
def test_results_are_those_of_the_function_even_if_kernels_fail(
  monkeypatch, works
):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  options = []

  def draw_or_fail(seed):
    options.append(jax.config.jax_threefry_gpu_kernel_lowering)
    if options[-1] and not works:
      raise jax.errors.JaxRuntimeError('NOT_FOUND: no such kernel\nand more')
    return draw(seed)

  found = random_kernels.draw_by_kernels(draw_or_fail)(4)
  np.testing.assert_array_equal(found, draw(4))
  assert options == ([True] if works else [True, False])
