"""Trains a network: `python train.py --config=... --workdir=...`.

The flags are read in `convmixer_jax/cli/train.py`, which calls
`training.loop.train_and_evaluate(config, workdir)`.
"""

import sys

from convmixer_jax.cli import main

if __name__ == '__main__':
  sys.argv.insert(1, 'train')
  main.main()
