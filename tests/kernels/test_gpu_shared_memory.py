"""Which fused kernels are used on GPUs that have little shared memory."""

import types

import jax
import jax.numpy as jnp
import pytest

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.gpu import compiler, library


@pytest.fixture
def gpu(monkeypatch):
  """A GPU of this process, as far as is asked; whatever it loads is there."""
  one = types.SimpleNamespace(platform='gpu', local_hardware_id=0)
  handlers = types.SimpleNamespace(
    convmixer_gpu_add=lambda *_: None, convmixer_gpu_load=lambda *_: None
  )
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(jax, 'local_devices', lambda: [one])
  monkeypatch.setattr(library, '_handler_or_reason', lambda: (handlers, None))
  monkeypatch.setattr(compiler, 'compile_device_code', lambda *_: b'')
  library._unavailable_here.cache_clear()
  yield one
  library._unavailable_here.cache_clear()


@pytest.mark.parametrize(
  ('capability', 'has_room'),
  [('8.0', True), ('8.6', False), ('8.9', False), ('9.0', True)],
)
@pytest.mark.parametrize('width', [14, 32, 56, 112])
def test_activations_gradient_is_left_to_xla_where_it_has_no_room(
  gpu, capability, has_room, width
):
  gpu.compute_capability = capability
  x = jax.ShapeDtypeStruct((4, width, width, 64), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((9, 9, 64), jnp.bfloat16)

  def is_used(operation, **static):
    static['pad_before'] = 4
    return bool(dispatch.fused_backends(operation, None, (x, kernel), static))

  assert is_used('depthwise_conv_gradient', activation='gelu') == has_room
  assert is_used('depthwise_conv_sums', activation='gelu')
  assert is_used('depthwise_conv_add')
