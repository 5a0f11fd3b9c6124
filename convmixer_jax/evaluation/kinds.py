"""How networks are evaluated that give one class, and that give several."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from convmixer_jax.evaluation import multi_label_report, report
from convmixer_jax.evaluation.multi_label import evaluate_multi_label
from convmixer_jax.evaluation.per_image import evaluate_per_image
from convmixer_jax.pretrained.trained_model import TrainedModel


class Functions(NamedTuple):
  """The parts of an evaluation that differ.

  Attributes:
    evaluate: `evaluate_per_image`, or one with its arguments.
    report: `report`, or a module with its functions.
    describe: of the network, what else belongs into result.json.
  """

  evaluate: Callable[..., Any]
  report: ModuleType
  describe: Callable[[TrainedModel], dict[str, Any]]


def functions_of(trained: TrainedModel) -> Functions:
  """Returns the functions for a network."""
  if trained.multi_label:
    return Functions(
      evaluate_multi_label,
      multi_label_report,
      lambda network: {'thresholds': network.describe_thresholds()},
    )
  return Functions(evaluate_per_image, report, lambda network: {})
