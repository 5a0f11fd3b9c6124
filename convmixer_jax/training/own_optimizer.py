"""An optimizer that was given as an object: its check and learning rate."""

import jax
import jax.numpy as jnp
import optax

from convmixer_jax.errors import UserError, user_code


def check(
  optimizer: optax.GradientTransformation, params: optax.Params
) -> None:
  """Checks an optimizer by the shapes of parameters.

  Args:
    optimizer: of the user.
    params: a tree of shapes.

  Raises:
    UserError: it fails, or its updates are not like the parameters.
  """

  def step(params):
    return optimizer.update(params, optimizer.init(params), params)

  with user_code('the optimizer fails for the parameters of the network'):
    updates, _ = jax.eval_shape(step, params)

  def describe(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

  if describe(updates) != describe(params):
    raise UserError(
      'the optimizer returns updates of other shapes or dtypes than the '
      'parameters; correct it'
    )


def find_learning_rate(state: optax.OptState) -> jax.Array:
  """Returns the learning rate of the last update, nan if it is not known.

  Args:
    state: after the update. Of `optax.inject_hyperparams` it has the rate.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = getattr(path[-1], 'key', None) if path else None
    if name == 'learning_rate' and jnp.shape(leaf) == ():
      return jnp.asarray(leaf, jnp.float32)
  return jnp.full((), jnp.nan, jnp.float32)
