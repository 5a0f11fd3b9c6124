"""The lines that a run reports its metrics in."""

from collections.abc import Mapping

import tqdm

# Updates between two reports, by default: a tenth of an epoch, within these.
_LEAST_STEPS, _MOST_STEPS = 10, 50

_SHOWN = {
  'train_loss': '.4f',
  'train_accuracy': '.4f',
  'train_f1_micro': '.4f',
  'learning_rate': '.3g',
  'images_per_sec': '.1f',
  'eval_loss': '.4f',
  'eval_accuracy': '.4f',
  'eval_accuracy_top5': '.4f',
  'eval_mean_average_precision': '.4f',
  'eval_f1_micro': '.4f',
  'eval_f1_macro': '.4f',
}


def steps_between_reports(log_every_steps: int, steps_per_epoch: int) -> int:
  """Returns after how many updates training reports its metrics.

  Args:
    log_every_steps: the config's value; 0 chooses a tenth of an epoch, rounded
      up, but at least 10 and at most 50.
    steps_per_epoch: updates in an epoch.
  """
  tenth = -(-steps_per_epoch // 10)
  return log_every_steps or min(max(_LEAST_STEPS, tenth), _MOST_STEPS)


def report_line(
  step: int,
  num_steps: int,
  epoch: float,
  values: Mapping[str, float],
  *,
  seconds_left: float | None = None,
  width: int | None = None,
) -> str:
  """Returns a line with the metrics of a step.

  Args:
    step: updates made.
    num_steps: updates in the whole run.
    epoch: of the step, a fraction.
    values: metrics by name, of which the known ones are shown.
    seconds_left: shown, if given, as the time that the run will take.
    width: columns of the terminal: metrics at the end of the line that do not
      fit are left out, all but the first. None: all are shown.
  """
  parts = [
    f'{name} {values[name]:{style}}'
    for name, style in _SHOWN.items()
    if name in values
  ]
  if skipped := values.get('skipped_steps'):
    parts.insert(1, f'skipped_steps {skipped:.0f}')
  if seconds_left is not None:
    parts.append(f'eta {tqdm.tqdm.format_interval(seconds_left)}')
  line = f'step {step:>6}/{num_steps}  epoch {epoch:6.2f}'
  for number, part in enumerate(parts):
    if width and number and len(line) + 2 + len(part) > width:
      break
    line += f'  {part}'
  return line
