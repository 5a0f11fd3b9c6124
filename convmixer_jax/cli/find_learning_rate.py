r"""Suggests a learning rate, by a short training in which it rises.

  convmixer find_learning_rate --config=configs/digits.py --output=DIR

Trains for --steps from the start of a run, which is not kept, with the learning
rate rising from --lowest to --highest by the same factor in each step, until
the smoothed loss is twice its minimum. Suggests a tenth of the rate at the
minimum. The directory gets learning_rate.png and learning_rate.csv.
"""

import csv
import io
from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import command, output_files, output_flag
from convmixer_jax.cli.config_flag import CONFIG
from convmixer_jax.cli.output_flag import OUTPUT

flags.adopt_module_key_flags(output_flag)
flags.mark_flag_as_required('output')
_LOWEST = flags.DEFINE_float('lowest', 1e-6, 'learning rate of the first step')
_HIGHEST = flags.DEFINE_float('highest', 10.0, 'learning rate of the last step')
_STEPS = flags.DEFINE_integer('steps', 200, 'steps of the sweep, at most')
flags.mark_flag_as_required('config')
_PICTURE, _TABLE = 'learning_rate.png', 'learning_rate.csv'


def main(argv: Sequence[str]) -> None:
  """Makes the sweep, writes it, and prints the suggestion."""
  command.refuse_arguments(argv)
  with output_files.make_directory(OUTPUT.value or '') as output:
    from convmixer_jax import files
    from convmixer_jax.analysis import plots
    from convmixer_jax.training.learning_rate_sweep import sweep_learning_rate

    sweep = sweep_learning_rate(
      CONFIG.value,
      lowest=_LOWEST.value,
      highest=_HIGHEST.value,
      num_steps=_STEPS.value,
    )
    at_minimum = float(sweep.rates[sweep.minimum])
    steepest = float(sweep.rates[sweep.steepest])
    figure = plots.learning_rate_sweep(
      sweep.rates,
      sweep.losses,
      sweep.smoothed,
      {
        'suggestion': sweep.suggestion,
        'steepest descent': steepest,
        'minimum': at_minimum,
      },
      sweep.name,
    )
    table = io.StringIO()
    rows = csv.writer(table, lineterminator='\n')
    rows.writerow(['learning_rate', 'loss', 'smoothed_loss'])
    rows.writerows(
      zip(
        *(
          column.tolist()
          for column in (sweep.rates, sweep.losses, sweep.smoothed)
        ),
        strict=True,
      )
    )
    with output_files.one_line_errors(output):
      files.write(output / _PICTURE, plots.to_png(figure))
      files.write(output / _TABLE, table.getvalue().encode())
    described = output_files.describe_written(output, [_PICTURE, _TABLE])
  print(f'{sweep.name}: {len(sweep.rates)} steps')
  print(
    f'Lowest smoothed loss: {sweep.smoothed[sweep.minimum]:.4f} at a learning '
    f'rate of {at_minimum:.2g}; it falls fastest at {steepest:.2g}'
  )
  if not sweep.has_diverged:
    print(
      f'The loss did not diverge up to {sweep.rates[-1]:.2g}; a larger '
      '--highest shows more'
    )
  print(described)
  print(
    'Suggested, a tenth of the rate at the minimum: '
    f'--config.learning_rate={sweep.suggestion:g}'
  )
