"""Draws the first parameters on a GPU without compiling for a minute.

XLA computes random bits there by a hundred operations for each draw, and every
layer draws several times: of 32 blocks, that takes five times as long to
compile as their training step. Networks that can be a loop are one while they
are drawn (`steps.create_state`); others, such as those of users, need this. By
JAX's option each draw is a call of a kernel instead, for the same bits. It is
left alone elsewhere, since XLA fuses the operations with what follows, which is
faster in a step that is repeated.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import logging

_OPTION = 'jax_threefry_gpu_kernel_lowering'


@contextlib.contextmanager
def random_kernels() -> Iterator[None]:
  """Computes random bits by kernels in what is compiled for GPUs meanwhile.

  Without effect where JAX does not have the option.
  """
  before = getattr(jax.config, _OPTION, None)
  if before is None:
    yield
    return
  jax.config.update(_OPTION, True)
  try:
    yield
  finally:
    jax.config.update(_OPTION, before)


def draw_by_kernels(draw: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function of the same results that compiles sooner for GPUs.

  If the kernels cannot be used, a warning says so, and `draw` is called as it
  is.

  Args:
    draw: a jitted function that draws random numbers, and is called once.
  """

  def drawing(*arguments):
    if jax.default_backend() == 'gpu':
      try:
        with random_kernels():
          return jax.block_until_ready(draw(*arguments))
      except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition('\n')[0]
        logging.warning('drawing parameters without kernels: %s', reason)
    return draw(*arguments)

  return drawing
