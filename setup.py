"""Adds configs/ to the wheel, as `convmixer_jax.configs`; see pyproject.toml.

In the checkout they lie beside train.py, where they are looked for first.
"""

import setuptools

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=['convmixer_jax', 'convmixer_jax.*']),
    'convmixer_jax.configs',
    'convmixer_jax.configs.sweeps',
  ],
  package_dir={
    'convmixer_jax.configs': 'configs',
    'convmixer_jax.configs.sweeps': 'configs/sweeps',
  },
)
