r"""Is it the patches? Stems and token mixers in one network, on CIFAR-10.

    python -m convmixer_jax prepare cifar10
    convmixer sweep --sweep=configs/sweeps/patches.py --workdir=runs/patches \
      --jobs=2

On 2 CPU cores: about three hours; it resumes where it was stopped. A variant,
such as `configs/sweeps/patches.py:width`, is one grid of:

  width       every stem with every token mixer, equal width and depth
  parameters  the same with a ConvMixer's number of parameters, by the width
  prenorm     ConvMixer's differences from the pre-norm block, one at a time
              and together, with a convolution and with attention
  paper       the ablations of ConvMixer's paper: kernel sizes, LayerNorm, a
              residual connection around the pointwise convolution too
  pixels      single pixels as tokens, 1,024 an image; not in the three hours
  authors     every token mixer in a network of the size and with the recipe
              of configs/cifar10.py, 25 epochs in bfloat16; for a GPU

A row has three seeds, and a learning rate of its own: the best of three, with
attention of three smaller ones, after an epoch (of `authors`, five) of 90 % of
the training images, on the other 10 %. Nothing is chosen by the test images.
"""

import dataclasses

from convmixer_jax.errors import UserError
from convmixer_jax.sweeps import Choice, Grid

STEMS = {
  'patch2': {'model.stem': 'patches', 'model.patch_size': 2},
  'patch4': {'model.stem': 'patches', 'model.patch_size': 4},
  'overlapping4': {'model.stem': 'overlapping', 'model.patch_size': 4},
  'convolutions4': {'model.stem': 'convolutions', 'model.patch_size': 4},
}
# Attention has 64 channels a head and a position embedding, as ViT: without one
# it has no order. The slowest is last.
MIXERS = {
  'convolution': {'model.token_mixer': 'convolution'},
  'linear': {'model.token_mixer': 'linear'},
  'pool': {'model.token_mixer': 'pool', 'model.kernel_size': 3},
  'none': {'model.token_mixer': 'none'},
  'attention': {
    'model.token_mixer': 'attention',
    'model.heads': 1,
    'model.position_embedding': True,
  },
}
# Widths whose numbers of parameters come nearest to a convolution's of width
# 64 with the same stem. Of patch2 there are none: a linear map over its 256
# tokens has 66,000 parameters in every block, more than twice the network's.
WIDTHS = {
  ('patch4', 'attention'): 34,
  ('patch4', 'linear'): 45,
  ('patch4', 'pool'): 74,
  ('patch4', 'none'): 74,
  ('overlapping4', 'attention'): 36,
  ('overlapping4', 'linear'): 48,
  ('overlapping4', 'pool'): 73,
  ('overlapping4', 'none'): 73,
  ('convolutions4', 'attention'): 40,
  ('convolutions4', 'linear'): 55,
  ('convolutions4', 'pool'): 70,
  ('convolutions4', 'none'): 70,
}
# What a pre-norm block has instead of what ConvMixer's has. That itself is in
# the grid of equal width, with patch4.
DIFFERENCES = {
  'before': {'model.norm_place': 'before'},
  'layernorm': {'model.norm': 'layer'},
  'residual': {'model.residual': 'both'},
  'mlp': {'model.channel_mixer': 'mlp'},
  'activation': {'model.token_activation': False},
  'prenorm': {
    'model.norm_place': 'before',
    'model.norm': 'layer',
    'model.residual': 'both',
    'model.channel_mixer': 'mlp',
    'model.token_activation': False,
  },
}
# Kernel size 5 is in the grid of equal width, with patch2.
ABLATIONS = {
  'kernel3': {'model.kernel_size': 3},
  'kernel7': {'model.kernel_size': 7},
  'kernel9': {'model.kernel_size': 9},
  'layernorm': {'model.norm': 'layer'},
  'residual': {'model.residual': 'both'},
}


# Size and recipe of configs/cifar10.py, whose images are in configs/patches.py.
AUTHORS = {
  'model.width': 256,
  'model.depth': 8,
  'model.patch_size': 2,
  'dtype': 'bfloat16',
  'batch_size': 512,
  'num_epochs': 25,
  'eval_every_epochs': 5,
  'input.on_device': True,
}
ATTENTION_256 = MIXERS['attention'] | {'model.heads': 4}
RATES = (0.003, 0.012, 0.05)
RATES_OF_ATTENTION = (0.00075, 0.003, 0.012)
_LARGE = ('pixels', 'authors')


def get_sweep(variant: str = '') -> list[Grid]:
  """Returns the grids for a CPU, or those that are named."""
  grids = list(_grids())
  if not variant:
    return [grid for grid in grids if grid.name not in _LARGE]
  found = [grid for grid in grids if grid.name == variant]
  if not found:
    names = dict.fromkeys(grid.name for grid in grids)
    raise UserError(
      f'configs/sweeps/patches.py has no variant {variant!r}; there are '
      f'{", ".join(names)}'
    )
  return found


def _grids():
  common = {
    'config': 'patches',
    'overrides': {
      # Two epochs of so small networks do not overfit: flips suffice.
      'augment.rand_augment.num_ops': 0,
      'input.on_device': True,  # the same images, made faster
      'num_epochs': 2,
    },
    'seeds': (0, 1, 2),
    'choose': Choice(
      key='learning_rate',
      values=RATES,
      overrides={
        'dataset.train_split': 'train[:90%]',
        'dataset.eval_split': 'train[90%:]',
        'num_epochs': 1,
      },
    ),
  }
  main = {'stem': STEMS, 'mixer': MIXERS}
  two = {name: MIXERS[name] for name in ('convolution', 'attention')}
  patch4 = {**common, 'overrides': common['overrides'] | STEMS['patch4']}
  pixels = {'model.stem': 'pixels', 'model.patch_size': 1}
  yield from _by_mixer(**common, name='width', axes=main)
  yield from _by_mixer(
    **common,
    name='parameters',
    axes=main,
    # A convolution's are in the grid of equal width.
    skip=[{'mixer': 'convolution'}, {'stem': 'patch2'}],
    special=[
      ({'stem': stem, 'mixer': mixer}, {'model.width': width})
      for (stem, mixer), width in WIDTHS.items()
    ],
  )
  yield from _by_mixer(
    **patch4, name='prenorm', axes={'block': DIFFERENCES, 'mixer': two}
  )
  yield Grid(**common, name='paper', axes={'ablation': ABLATIONS})
  yield Grid(
    **common | {'overrides': common['overrides'] | pixels},
    name='pixels',
    axes={'mixer': {name: MIXERS[name] for name in ('convolution', 'none')}},
  )
  yield from _by_mixer(
    **common | {'overrides': AUTHORS, 'choose': _longer(common['choose'])},
    name='authors',
    axes={'mixer': MIXERS | {'attention': ATTENTION_256}},
  )


def _by_mixer(axes, choose, **fields):
  """Yields a grid for attention, which learns at smaller rates, and the rest.

  Of `RATES`, the smallest is the best for attention.
  """
  mixers = axes['mixer']
  for values, names in (
    (RATES, [name for name in mixers if name != 'attention']),
    (RATES_OF_ATTENTION, ['attention']),
  ):
    yield Grid(
      **fields
      | {
        key: [entry for entry in fields[key] if _is_of(entry, names)]
        for key in ('skip', 'special')
        if key in fields
      },
      axes=axes | {'mixer': {name: mixers[name] for name in names}},
      choose=dataclasses.replace(choose, values=values),
    )


def _is_of(entry, mixers):
  """Returns whether what is skipped or special concerns some of the mixers."""
  options = entry if isinstance(entry, dict) else entry[0]
  return options.get('mixer', mixers[0]) in mixers


def _longer(choose):
  overrides = {**choose.overrides, 'num_epochs': 5}
  return dataclasses.replace(choose, overrides=overrides)
