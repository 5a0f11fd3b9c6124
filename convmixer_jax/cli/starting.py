"""The first line of training, before the imports that take seconds."""

import os
import sys

# Variables in which a launcher numbers the processes that it starts.
_RANKS = ('SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def announce() -> None:
  """Prints that JAX is being loaded, unless it is or another process says so.

  No process knows its number before JAX has connected it to the others, except
  from the environment.
  """
  if 'jax' in sys.modules:
    return
  if any(os.environ.get(name, '0') != '0' for name in _RANKS):
    return
  print('Loading JAX ...', flush=True)
