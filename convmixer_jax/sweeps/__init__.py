"""Sweeps: many runs of one file, started, watched and compared.

A file of a sweep imports `Grid` and `Choice` from here.
"""

from convmixer_jax.sweeps.grid import Choice, Grid

__all__ = ['Choice', 'Grid']
