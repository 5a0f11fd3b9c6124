"""ConvMixer in JAX: train, study and use ConvMixers."""

from typing import Any


def __getattr__(name: str) -> Any:
  """Imports `load_run` when it is asked for: it needs JAX and Orbax."""
  if name == 'load_run':
    from convmixer_jax.runs import load_run

    return load_run
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
