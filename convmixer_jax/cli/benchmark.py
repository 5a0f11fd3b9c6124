"""Measures speed: `convmixer benchmark NAME [flags]`.

NAME is one of these; `NAME --help` shows its flags.
"""

COMMANDS = {
  'device': 'convmixer_jax.cli.device_benchmark',
  'input': 'convmixer_jax.cli.input_benchmark',
  'model': 'convmixer_jax.cli.model_benchmark',
}
