"""`python -m convmixer_jax COMMAND`; see `cli/main.py`."""

from convmixer_jax.cli import main

if __name__ == '__main__':
  main.main()
