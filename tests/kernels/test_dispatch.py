"""The choice of a backend, with fake ones whose results differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from convmixer_jax import kernels
from convmixer_jax.errors import UserError
from convmixer_jax.kernels import dispatch

WIDE = jnp.ones(8)
NARROW = jnp.ones(4)


def give(value):
  """A function of a backend: adds a constant that shows who computed."""
  return lambda x, factor: factor * x + value


def is_narrow(operation, operands, static):
  width = operands[0].shape[-1]
  return None if width % 8 == 0 else f'width {width} is not a multiple of 8'


@pytest.fixture
def messages(monkeypatch):
  """Replaces all backends by fakes; what is logged about them."""
  found = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: found.append(text % args)
  )
  monkeypatch.setattr(dispatch, '_backends', {})
  dispatch._warn.cache_clear()
  for backend in (
    dispatch.Backend('fake_cpu', {'add': give(1)}, 'cpu', is_narrow),
    dispatch.Backend('fake_cuda', {'add': give(2)}, 'cuda', is_narrow),
    dispatch.Backend(
      'rolled',
      {'add': give(3)},
      preferred=lambda platform, *_: platform == 'cuda',
    ),
    dispatch.Backend('plain', {'add': give(4), 'multiply': give(0)}),
  ):
    dispatch.register(backend)
  yield found
  dispatch._warn.cache_clear()


def add(x, backend=None):
  return dispatch.call('add', backend, x, factor=10)


def lowered_constants(x, platform, backend=None):
  """The constants that a program lowered for a platform adds."""
  traced = jax.jit(lambda x: add(x, backend)).trace(x)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  return {n for n in range(5) if f'dense<{n}.000000e+00>' in text}


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit])
def test_kernels_of_the_platform_are_the_default_where_available(
  messages, wrap
):
  np.testing.assert_array_equal(wrap(add)(WIDE), 11)
  assert messages == []
  np.testing.assert_array_equal(wrap(add)(NARROW), 14)


def test_fallback_is_logged_once_for_each_reason(messages):
  for width in (4, 4, 12):
    add(jnp.ones(width))
    jax.jit(add)(jnp.ones(width))
  assert len(messages) == 2
  for width, message in zip((4, 12), messages, strict=True):
    assert 'the fake_cpu kernels are not used' in message
    assert f'width {width} is not a multiple of 8' in message


@pytest.mark.parametrize(
  ('x', 'platform', 'constant'),
  [
    (WIDE, 'cpu', 1),
    (WIDE, 'cuda', 2),
    (WIDE, 'tpu', 4),
    (NARROW, 'cpu', 4),
    (NARROW, 'cuda', 3),
    (NARROW, 'tpu', 4),
  ],
)
def test_program_has_the_backend_of_the_platform_it_is_lowered_for(
  messages, x, platform, constant
):
  assert lowered_constants(x, platform) == {constant}
  # Only what this process computes on is worth a warning.
  assert not any('fake_cuda' in message for message in messages)


def test_unavailable_kernels_of_a_gpu_are_logged_where_there_is_one(
  messages, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert dispatch.default_backends('add', (NARROW,), {}) == {
    'cuda': 'rolled',
    'default': 'plain',
  }
  (message,) = messages
  assert 'the fake_cuda kernels are not used: width 4' in message


def test_cpu_kernels_are_not_built_beside_an_accelerator(messages, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert dispatch.default_backends('add', (WIDE,), {}) == {
    'cuda': 'fake_cuda',
    'default': 'plain',
  }
  assert messages == []


def test_operation_with_a_single_backend_is_called_directly(messages):
  jaxpr = jax.make_jaxpr(
    lambda x: dispatch.call('multiply', None, x, factor=10)
  )(WIDE)
  assert 'platform_index' not in str(jaxpr)
  assert dispatch.default_backends('multiply', (WIDE,), {}) == {
    'default': 'plain'
  }


@pytest.mark.parametrize(
  ('name', 'constant'), [('fake_cuda', 2), ('rolled', 3), ('plain', 4)]
)
def test_named_backend_computes_on_every_platform(messages, name, constant):
  np.testing.assert_array_equal(add(WIDE, name), 10 + constant)
  for platform in ('cpu', 'cuda', 'tpu'):
    assert lowered_constants(WIDE, platform, name) == {constant}


def test_named_backend_that_is_unavailable_is_refused(messages):
  with pytest.raises(RuntimeError, match='width 4 is not a multiple of 8'):
    add(NARROW, 'fake_cpu')
  with pytest.raises(UserError, match="backend 'fake_cpu' is unavailable: wid"):
    add(NARROW, 'fake_cpu')
  assert messages == []


@pytest.mark.parametrize(
  ('operation', 'name', 'names'),
  [
    ('add', 'none_such', 'fake_cpu, fake_cuda, rolled, plain'),
    ('multiply', 'rolled', 'plain'),  # which only has the other operation
  ],
)
def test_unknown_backend_is_refused(messages, operation, name, names):
  text = f"{operation}: backend '{name}' is unknown; use one of {names}, or "
  with pytest.raises(ValueError, match=text):
    dispatch.call(operation, name, WIDE, factor=10)


def test_backends_of_one_name_and_of_unknown_platforms_are_refused(messages):
  with pytest.raises(ValueError, match="two backends named 'plain'"):
    dispatch.register(dispatch.Backend('plain', {}))
  with pytest.raises(ValueError, match="is for 'abacus'; use one of cpu, cuda"):
    dispatch.register(dispatch.Backend('other', {}, 'abacus'))


def test_gradients_flow_through_the_chosen_backend(messages):
  gradient = jax.jit(jax.grad(lambda x: add(x).sum()))
  np.testing.assert_array_equal(gradient(WIDE), 10)
  np.testing.assert_array_equal(gradient(NARROW), 10)


@pytest.mark.parametrize(
  'call',
  [
    lambda x, c: kernels.linear(x, jnp.ones((2, 2)), backend='shift'),
    lambda x, c: kernels.pack_kernel(jnp.ones((2, 2)), x.dtype, 'shift'),
    lambda x, c: kernels.activation_mean(
      x, c, activation='relu', backend='shift'
    ),
    lambda x, c: kernels.activation_affine(
      x, c, c, c, activation='relu', backend='shift'
    ),
  ],
)
def test_norms_and_products_refuse_a_backend_of_convolutions(call):
  with pytest.raises(ValueError, match="'shift' is unknown; use one of cpu, x"):
    call(jnp.ones((1, 4, 4, 2)), jnp.ones(2))


def test_fused_mixer_refuses_an_unknown_backend():
  c = jnp.ones(2)
  with pytest.raises(ValueError, match="'none' is unknown; use one of cpu, cu"):
    kernels.fused_mixer(
      *(jnp.ones((1, 4, 4, 2)), c, c, c, jnp.ones((3, 3, 2)), c, c),
      activation='relu',
      backend='none',
    )
