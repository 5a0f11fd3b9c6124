"""What a sweep needs, without training: sizes of networks, and hours."""

import dataclasses
from collections.abc import Sequence

from convmixer_jax.config import num_train_steps
from convmixer_jax.sweeps import configs
from convmixer_jax.sweeps.plan import Plan, Run
from convmixer_jax.sweeps.progress import read_progress


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What one run needs.

  Attributes:
    run: the run.
    overrides: of it, as text.
    parameters: of its network.
    macs: for an image.
    images: that it trains on in all.
    rate: images/s; None if nothing is known.
    is_measured: whether that was measured of this network.
    share: of the run that is done.
  """

  run: Run
  overrides: str
  parameters: int
  macs: int
  images: int
  rate: float | None
  is_measured: bool
  share: float

  @property
  def hours(self) -> float | None:
    """What is left of the run; None if its speed is not known."""
    if self.rate is None:
      return None
    return self.images * (1 - self.share) / self.rate / 3600


def estimate(plan: Plan, images_per_sec: float | None) -> list[Estimate]:
  """Returns what each run needs.

  A speed is that which runs of the same network have measured in the directory
  of the sweep. Those of other networks follow from their MACs and one speed:
  the given one, else the mean of the measured ones.

  Args:
    plan: of the sweep.
    images_per_sec: of the first run in training; None if it is not known.

  Raises:
    UserError: the data is neither prepared nor well known, or a network cannot
      be built.
  """
  found = []
  measured: dict[configs.NetworkSize, list[float]] = {}
  for run in plan.runs:
    config = run.config
    if config is None:
      assert run.row.choose, run.name
      config = plan.config_of(run, run.row.choose.values[0])
    data = configs.data_size(config, is_needed=False)
    size = configs.network_size(config, data.num_classes)
    steps = num_train_steps(config, data.num_examples // config.batch_size)
    progress = read_progress(run.directory, config)
    if speed := progress.metrics.get('images_per_sec'):
      measured.setdefault(size, []).append(speed)
    share = 1.0 if progress.is_complete else progress.share
    found.append((run, size, steps * config.batch_size, share))
  means = {size: sum(speeds) / len(speeds) for size, speeds in measured.items()}
  if images_per_sec is not None:
    macs_per_sec = images_per_sec * found[0][1].macs
  elif means:
    rates = [size.macs * rate for size, rate in means.items()]
    macs_per_sec = sum(rates) / len(rates)
  else:
    macs_per_sec = None
  return [
    Estimate(
      run,
      _describe(run),
      *size,
      images,
      means.get(size)
      or (macs_per_sec and size.macs and macs_per_sec / size.macs),
      size in means,
      share,
    )
    for run, size, images, share in found
  ]


def _describe(run):
  """Returns the overrides of a run in a few words."""
  overrides = dict(run.row.overrides)
  if run.row.choose:
    if run.is_trial:
      overrides |= run.row.choose.overrides
    key = run.row.choose.key
    overrides[key] = run.value if run.is_trial else 'chosen'
  return ' '.join(f'{key}={value}' for key, value in overrides.items())


def format_estimates(estimates: Sequence[Estimate], jobs: int) -> str:
  """Returns a table of the runs, and the hours of all of them.

  Args:
    estimates: of all runs.
    jobs: how many run at the same time.
  """
  rows = [('run', 'parameters', 'MMACs', 'images', 'done', 'hours')]
  for each in estimates:
    hours = each.hours
    note = '' if hours is None or each.is_measured else ' (by MACs)'
    rows.append(
      (
        each.run.name,
        f'{each.parameters:,}',
        f'{each.macs / 1e6:,.2f}',
        f'{each.images:,}',
        f'{each.share:.0%}',
        '?' if hours is None else f'{hours:.3g}{note}',
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for number, row in enumerate(rows):
    cells = [
      cell.ljust(width) if not i else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    lines.append('  '.join(cells).rstrip())
    if number:
      lines.append(f'    {estimates[number - 1].overrides}')
  known = [each.hours for each in estimates if each.hours is not None]
  if len(known) < len(estimates):
    total = (
      'hours are not known; give --images_per_sec, that of the first run, or '
      'train it first'
    )
  else:
    total = f'{sum(known) / jobs:.3g} hours'
    if jobs > 1:
      total += f' for {jobs} at a time, if each is as fast as alone'
  lines.append(f'{len(estimates)} runs: {total}; nothing was started')
  return '\n'.join(lines)
