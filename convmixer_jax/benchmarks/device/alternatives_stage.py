"""The stage of what the others replace, if there is time for it.

Its rows are in the tables of the stages before: correctness, depthwise and
models.
"""

from convmixer_jax.benchmarks.device import (
  depthwise_stage,
  device_stages,
  model_stage,
)
from convmixer_jax.benchmarks.device.model_groups import measure_group
from convmixer_jax.benchmarks.device.session import Session

_STAGE = 'alternatives'


def measure_alternatives(session: Session) -> None:
  """Checks and times implementations that are not the default on a GPU.

  And PyTorch where its channels-last format is slow, and what else was left out
  of the networks.
  """
  settings, budget = session.settings, session.budget
  if budget.left(_STAGE) >= settings.min_seconds:
    seconds = budget.left(_STAGE) / 2
    device_stages.compare_implementations(session, seconds, others=True)
  depthwise_stage.compare(session, settings.depthwise, _STAGE, by_xla=True)
  for group in model_stage.list_other_groups(session):
    measure_group(session, 'models', group, budget=_STAGE)
  depthwise_stage.compare_others(session, _STAGE)
