"""Finds a learning rate: trains while the rate rises until the loss does.

The rate rises by the same factor in each step. The loss is smoothed by an
exponential mean, and the sweep ends when that has risen to several times its
minimum. The suggestion is a tenth of the rate at the minimum.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.training.setup import Setup
from convmixer_jax.training.summary import run_name
from convmixer_jax.training.trainer import create_trainer
from convmixer_jax.training.trial import (
  create_state,
  open_batches,
  scratch_setup,
)

_SMOOTHING = 0.9  # weight of the mean before a step
_DIVERGED = 2.0  # times the minimum, at which the sweep ends
_LEAST_FALL = 0.97  # of the first losses, to which the smoothed loss must fall
_FIRST = 10  # steps whose mean is the loss at the start


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The loss by learning rate.

  Attributes:
    name: of the network and its data.
    rates: `[N]`, of each step.
    losses: `[N]`.
    smoothed: `[N]`, their exponential mean.
    minimum: index of the least smoothed loss.
    steepest: index at which that falls fastest, by the logarithm of the rate.
    has_diverged: whether the sweep ended because the loss rose.
  """

  name: str
  rates: np.ndarray
  losses: np.ndarray
  smoothed: np.ndarray
  minimum: int
  steepest: int
  has_diverged: bool

  @property
  def suggestion(self) -> float:
    """A tenth of the rate at the minimum, to two digits."""
    return float(f'{self.rates[self.minimum] / 10:.1e}')


@default_settings()
def sweep_learning_rate(
  config: ml_collections.ConfigDict,
  *,
  lowest: float = 1e-6,
  highest: float = 10.0,
  num_steps: int = 200,
) -> Sweep:
  """Trains for some steps from the start of a run, which is not kept.

  Data, augmentation, network, optimizer and pretrained weights are those of the
  config; its learning rate and schedule are not used.

  Args:
    config: the whole config.
    lowest: rate of the first step.
    highest: rate of the last step.
    num_steps: at most; fewer if the loss diverges.

  Raises:
    UserError: the config or the data is wrong, the rates are not in order, or
      the loss does not fall.
  """
  if not 0 < lowest < highest < math.inf or num_steps < 2 * _FIRST:
    raise UserError(
      f'learning rates from {lowest} to {highest} in {num_steps} steps are not '
      f'a sweep; give 0 < lowest < highest and {2 * _FIRST} steps or more'
    )
  rates = np.geomspace(lowest, highest, num_steps)
  with scratch_setup(config) as setup:
    losses = _measure(setup, rates)
    name = run_name(setup)
  return _evaluate(name, rates, np.asarray(losses))


def _measure(setup: Setup, rates: np.ndarray) -> list[float]:
  """Returns the losses, up to the step in which they have diverged."""
  table = jnp.asarray(rates, jnp.float32)
  trainer = create_trainer(
    setup.config,
    setup.mesh,
    num_classes=setup.train_source.num_classes,
    steps_per_epoch=setup.steps_per_epoch,
    schedule=lambda step: table[step],
  )
  state = create_state(setup)
  losses: list[float] = []
  with open_batches(setup) as batches:
    for _, batch in zip(rates, batches, strict=False):
      state, metrics = trainer.train_step(state, batch)
      loss = float(jax.device_get(metrics).compute()['train_loss'])
      losses.append(loss)
      if _is_divergent(np.asarray(losses)):
        break
  return losses


def smooth(losses: np.ndarray) -> np.ndarray:
  """Returns the exponential mean, `[N]`, corrected for its start."""
  smoothed, mean = [], 0.0
  for count, loss in enumerate(losses, start=1):
    mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
    smoothed.append(mean / (1 - _SMOOTHING**count))
  return np.asarray(smoothed)


def _is_divergent(losses):
  if not np.isfinite(losses[-1]):
    return True
  if len(losses) <= _FIRST:
    return False
  smoothed = smooth(losses)
  return smoothed[-1] > _DIVERGED * smoothed[_FIRST - 1 :].min()


def _evaluate(name, rates, losses):
  has_diverged = bool(_is_divergent(losses))
  losses = losses[np.isfinite(losses)]
  if len(losses) < _FIRST:
    raise UserError(
      f'the loss is not finite after {len(losses)} steps, at a learning rate '
      f'of {rates[len(losses)]:.2g}; lower --lowest, or look at the data'
    )
  rates, smoothed = rates[: len(losses)], smooth(losses)
  # Before that, the mean is of few losses: one easy batch is not a minimum.
  minimum = _FIRST - 1 + int(np.argmin(smoothed[_FIRST - 1 :]))
  start = losses[:_FIRST].mean()
  if minimum < _FIRST or smoothed[minimum] > _LEAST_FALL * start:
    raise UserError(
      f'the loss did not fall at learning rates from {rates[0]:.2g} to '
      f'{rates[-1]:.2g}: it was {start:.4f} at the start and '
      f'{smoothed[minimum]:.4f} at best; take more --steps, other rates, or '
      'see whether train --overfit_one_batch learns'
    )
  slopes = np.gradient(smoothed[: minimum + 1], np.log(rates[: minimum + 1]))
  return Sweep(
    name=name,
    rates=rates,
    losses=losses,
    smoothed=smoothed,
    minimum=minimum,
    steepest=int(np.argmin(slopes)),
    has_diverged=has_diverged,
  )
