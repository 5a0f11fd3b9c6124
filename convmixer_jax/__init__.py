"""Train, study and use ConvMixer and other image classifiers, in JAX."""

import os
from typing import Any

# Buckets are read and written by gcsfs, whether TensorFlow is installed or not:
# etils would prefer TensorFlow's client.
os.environ.setdefault('EPATH_USE_TF', 'false')


def __getattr__(name: str) -> Any:
  """Imports `load` and `load_run` when asked for: they need JAX and Orbax."""
  if name == 'load':
    from convmixer_jax.pretrained.load import load

    return load
  if name == 'load_run':
    from convmixer_jax.pretrained.runs import load_run

    return load_run
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
