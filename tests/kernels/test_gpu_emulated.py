"""Layers computed by the GPU kernels, which an emulator runs on the CPU.

What the kernels compute is tested in gpu/test_emulated.py; here it is that the
layers, and their gradients, call the right ones with the right arguments.
"""

import functools

import gpu_emulator
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax import kernels
from convmixer_jax.kernels.gpu import calls, library

SHAPE, SIZE = (3, 5, 18, 16), 4  # an even kernel pads unevenly

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not gpu_emulator.COMPILER, reason='there is no g++'),
]


@pytest.fixture(scope='module')
def emulator(tmp_path_factory):
  return gpu_emulator.Emulator(tmp_path_factory.mktemp('emulator'))


@pytest.fixture(autouse=True)
def on_emulator(emulator, monkeypatch):
  monkeypatch.setattr(library, '_is_for_absent_gpus', True)
  monkeypatch.setattr(library, '_handler_or_reason', lambda: (None, None))

  def run(instance, operands, results):
    given = {name: a for name, a in operands.items() if a is not None}

    def compute(*arrays):
      buffers = dict(zip(given, map(np.array, arrays), strict=True))
      for name, shape in results.items():
        buffers[name] = np.full(shape.shape, np.nan, shape.dtype)
      emulator.run(instance, buffers)
      return [buffers[name] for name in results]

    found = jax.pure_callback(compute, list(results.values()), *given.values())
    return dict(zip(results, found, strict=True))

  monkeypatch.setattr(calls, 'run', run)


def draw(*shapes):
  rng = np.random.default_rng(0)
  arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
  # The same values in both dtypes.
  return [jnp.asarray(a, jnp.bfloat16).astype(jnp.float32) for a in arrays]


def assert_near(function, *arrays, limit=1e-2):
  """Expects the kernels' results near those of XLA in float32."""
  found = jax.jit(functools.partial(function, 'cuda'))(
    *(a.astype(jnp.bfloat16) if a.ndim == 4 else a for a in arrays)
  )
  with jax.default_matmul_precision('highest'):
    expected = jax.jit(functools.partial(function, 'xla'))(*arrays)
  for value, right in zip(found, expected, strict=True):
    value = np.asarray(value, np.float64)
    error = np.linalg.norm(value - right) / np.linalg.norm(right)
    assert error < limit


def test_convolution_and_its_gradients_equal_xla():
  def run(backend, x, dy, kernel, bias):
    y, pull = jax.vjp(
      functools.partial(kernels.depthwise_conv, backend=backend),
      *(x, kernel, bias),
    )
    return y, *pull(dy)

  channels = SHAPE[-1]
  assert_near(
    run, *draw(SHAPE, SHAPE, (SIZE, SIZE, channels), (channels,)), limit=4e-3
  )


@pytest.mark.parametrize('activation', kernels.ACTIVATIONS)
def test_training_of_a_layer_and_its_gradients_equal_xla(activation):
  def run(backend, x, dy, *parameters):
    def layer(*arguments):
      return kernels.residual_depthwise(
        *arguments,
        activation=activation,
        group_size=len(x),
        epsilon=1e-5,
        depthwise=backend,
        backend='xla',
      )

    (y, mean, var), pull = jax.vjp(layer, x, *parameters)
    zeros = jnp.zeros_like(mean)
    return y, mean, var, *pull((dy, zeros, zeros))

  c = SHAPE[-1]
  arrays = draw(SHAPE, SHAPE, (SIZE, SIZE, c), (c,), (c,), (c,))
  assert_near(run, *arrays)


def test_inference_of_a_layer_equals_xla():
  def run(backend, p, *arrays):
    return (
      kernels.fused_mixer(p, *arrays, activation='gelu', backend=backend),
    )

  c = SHAPE[-1]
  arrays = draw(SHAPE, (c,), (c,), (c,), (SIZE, SIZE, c), (c,), (c,))
  assert_near(run, *arrays)
