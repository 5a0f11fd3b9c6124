"""Trained models of a module and its variables, as files of weights give."""

import jax

from convmixer_jax.models import MODELS, architecture_of
from convmixer_jax.pretrained.trained_model import TrainedModel


def trained_model(model, variables, **known):
  """Returns one; nothing but `known` is known of its images and classes."""
  architecture = architecture_of(model)
  (name,) = (k for k, v in MODELS.items() if v is architecture)
  return TrainedModel.create(
    name,
    architecture.network_fields(model),
    model.num_classes,
    {'batch_stats': {}, **jax.device_get(variables)},
    known,
  )
