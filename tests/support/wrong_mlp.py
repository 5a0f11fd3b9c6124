"""An MLP that a comparison with a reference has to detect as wrong."""

import jax


def mlp_by_tanh(
  x: jax.Array,
  kernel1: jax.Array,
  bias1: jax.Array,
  kernel2: jax.Array,
  bias2: jax.Array,
  *,
  backend: str | None,
) -> jax.Array:
  """Computes `kernels.mlp` with the approximation of GELU by tanh."""
  del backend
  y = jax.nn.gelu(x @ kernel1 + bias1, approximate=True)
  return y @ kernel2 + bias2
