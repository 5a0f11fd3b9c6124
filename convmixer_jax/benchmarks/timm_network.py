"""Finds how timm creates the network of a benchmark."""

from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase
from convmixer_jax.models import find_architecture, model_config


def find_in_timm(case: BenchmarkCase) -> dict[str, Any]:
  """Returns how timm creates the network of a case; {} if it does not have it.

  Returns:
    Lines of Python that are the `imports`, an expression that is the
    `creation`, and of its `blocks` the number to keep, if not all.
  """
  architecture = find_architecture(case.network)
  state_dict = architecture.state_dict
  if state_dict is None:
    return {}
  config = model_config(case.network, **case.fields)
  fields = {name: config[name] for name in architecture.names('network')}
  if state_dict.timm_model is not None:
    found = state_dict.timm_model(fields, case.num_classes, 3, case.image_size)
    if found is not None:
      return {'imports': found.imports, 'creation': found.creation}
  depth = fields.pop('depth', None)
  for timm_name, variant in state_dict.timm_names.items():
    config = model_config(case.network, **architecture.variants[variant])
    if all(config[name] == value for name, value in fields.items()):
      creation = (
        f'timm.create_model({timm_name!r}, num_classes={case.num_classes})'
      )
      return {'imports': 'import timm', 'creation': creation, 'blocks': depth}
  return {}
