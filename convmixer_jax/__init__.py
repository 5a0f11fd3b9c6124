"""Train, study and use ConvMixer and other image classifiers, in JAX."""

import importlib
import os
from typing import Any

# Buckets are read and written by gcsfs, whether TensorFlow is installed or not:
# etils would prefer TensorFlow's client.
os.environ.setdefault('EPATH_USE_TF', 'false')


# Imported when asked for: they need JAX and Orbax.
_LAZY = {
  'Callback': 'convmixer_jax.training.callbacks',
  'load': 'convmixer_jax.pretrained.load',
  'load_run': 'convmixer_jax.pretrained.runs',
  'load_runs': 'convmixer_jax.sweeps.tables',
  'named': 'convmixer_jax.own_names',
  'train_and_evaluate': 'convmixer_jax.training.loop',
}


def __getattr__(name: str) -> Any:
  """Imports what the package exports, when it is asked for."""
  if name in _LAZY:
    return getattr(importlib.import_module(_LAZY[name]), name)
  if name == '__version__':
    from convmixer_jax.versions import package_version

    return package_version()
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  """Lists what the package exports, also what is not yet imported."""
  return sorted({*globals(), *_LAZY, '__version__'})
