"""The commands, one file each: `python -m convmixer_jax COMMAND`."""
