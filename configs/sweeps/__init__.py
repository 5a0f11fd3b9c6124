"""Sweeps: many runs of one file; docs/sweeps.md explains them."""
