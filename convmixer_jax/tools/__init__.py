"""What one runs besides train.py: `python -m convmixer_jax.tools.NAME`."""
