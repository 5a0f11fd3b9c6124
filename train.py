"""Trains a ConvMixer: `python train.py --config=... --workdir=...`."""

from absl import flags
from ml_collections import config_flags

from convmixer_jax.tools import cli

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'one of configs/, with its variant after a colon'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'where checkpoints and metrics go; go on with what is there'
)
flags.mark_flags_as_required(['config', 'workdir'])


def main(argv):
  """Trains, and prints the held-out accuracy as the last line."""
  del argv
  from convmixer_jax.training import loop

  results = loop.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  print(f'eval_accuracy = {results["eval_accuracy"]:.4f}')


if __name__ == '__main__':
  cli.run(main)
