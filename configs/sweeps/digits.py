r"""Two widths of ConvMixer on digits, with three seeds each: 6 short runs.

    convmixer sweep --sweep=configs/sweeps/digits.py --workdir=runs/widths

On 2 CPU cores: a minute.
"""

from convmixer_jax.sweeps import Grid


def get_sweep() -> Grid:
  """Returns the sweep."""
  return Grid(
    config='digits',
    overrides={
      'model.depth': 2,
      'model.kernel_size': 3,
      'num_epochs': 8,
      'eval_every_epochs': 2,
    },
    axes={'model.width': [16, 32]},
    seeds=(0, 1, 2),
  )
