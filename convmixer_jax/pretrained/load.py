"""Loads a trained network from wherever it is: `convmixer_jax.load`.

trained = convmixer_jax.load('hf://timm/convmixer_768_32.in1k')
logits = trained.model.apply(trained.variables, images, train=False)
"""

import os
from typing import Any

import ml_collections
from absl import logging

from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models import VARIANTS, find_architecture
from convmixer_jax.models.released import Released
from convmixer_jax.pretrained import weight_files
from convmixer_jax.pretrained.model_argument import parse_model
from convmixer_jax.pretrained.runs import open_run
from convmixer_jax.pretrained.source import RunSource, parse_source
from convmixer_jax.pretrained.trained_model import TrainedModel


@default_settings()
def load(
  source: str | os.PathLike,
  model: str | None = None,
  *,
  ema: bool | None = None,
) -> TrainedModel:
  """Loads a trained network.

  A run and a file that `convmixer convert` wrote contain all of it. Other files
  lack fields that do not follow from shapes, such as an activation or a number
  of heads: these follow from timm's config.json beside the weights; else they
  are those of `model`; else, if the name of the file or repository is that of
  released weights, theirs; else, with a warning, those of published networks of
  the same shapes. So do the size of images, their crop and its interpolation,
  mean and standard deviation.

  Args:
    source: a run, RUN, of which the checkpoint with the best held-out accuracy
      is taken or, where none was evaluated, the newest; one checkpoint of it,
      RUN@STEP, RUN@best, RUN@newest or RUN/checkpoints/STEP; a file of weights,
      .safetensors or PyTorch's .pth.tar, .pth, .pt or .bin; a directory with
      model.safetensors; or hf://OWNER/NAME[@REVISION]. Paths are local or in a
      bucket, gs://.
    model: what weights do not contain: one of `models.VARIANTS`, such as
      '768_32', one of `models.RELEASED`, such as 'convmixer_768_32.in1k', a
      network, as in `config.model.name`, what a field may be that has choices,
      such as 'relu', or fields with their values, such as 'heads=3'.
    ema: for a run, see `Run.load`.

  Raises:
    UserError: there is no such source, it is damaged, it is of a network that
      is not known, or not of `model`.
  """
  found = parse_source(source)
  source = str(source)
  if isinstance(found, RunSource):
    if model is not None:
      raise UserError(
        f'{source} is a run, whose config names its network; leave out '
        f'--model={model}'
      )
    return open_run(found.workdir, found.name).load(found.checkpoint, ema=ema)
  if ema is not None:
    raise UserError(
      f'{source} is not a run, so there is nothing to choose; leave out --ema'
    )
  network, given, variant, weights = parse_model(model)
  contents = weight_files.read(found, source, network)
  all_fields = set(find_architecture(contents.network).names('network'))
  if network not in (None, contents.network) or given.keys() - all_fields:
    raise UserError(
      f'{source} has the tensors of {contents.network!r}, which {model!r} does '
      'not describe; name the network it is of, or none'
    )
  fields = dict(contents.fields)
  for name, value in given.items():
    if fields.setdefault(name, value) != value:
      raise UserError(
        f'{source} has {name} = {fields[name]}, not {value} as {model!r} has '
        'it; name the network it is of, or none'
      )
  if weights is None and variant in (None, _variant_of(contents)):
    weights = contents.weights
  fields = _complete(fields, contents)
  if missing := all_fields - fields.keys():
    fields |= _assume(contents.network, fields, missing, source)
  trained = _create(contents, fields, source, variant, weights)
  _warn_of_assumed_input(trained)
  return trained


def load_for_config(
  source: str, config: ml_collections.ConfigDict
) -> TrainedModel:
  """Loads a trained network to start a run from, which need not fit the run.

  Fields that a file does not contain are taken from the config.

  Args:
    source: see `load`.
    config: `config.model` of the run.

  Raises:
    UserError: see `load`.
  """
  found = parse_source(source)
  if isinstance(found, RunSource):
    return open_run(found.workdir, found.name).load(found.checkpoint)
  ours = config.name
  contents = weight_files.read(found, source, ours)
  fields = _complete(contents.fields, contents)
  architecture = find_architecture(contents.network)
  for key in architecture.names('network'):
    default = architecture.fields[key].default
    if contents.network == ours:
      default = config.get(key, default)
    fields.setdefault(key, default)
  return _create(contents, fields, source, weights=contents.weights)


def _create(
  contents: weight_files.Contents,
  fields: dict[str, Any],
  source: str,
  variant: str | None = None,
  weights: Released | None = None,
) -> TrainedModel:
  known = contents.known
  if weights is not None:
    architecture = find_architecture(contents.network)
    params = contents.variables['params']
    usual = dict(weights.input)
    if architecture.num_channels(params, fields) not in (None, 3):
      del usual['mean'], usual['std']  # which are of RGB
    if weights.test is not None and 'eval_crop_fraction' not in known:
      usual['test_input'] = weights.test[:2]
    known = usual | {k: v for k, v in known.items() if v is not None}
  return TrainedModel.create(
    contents.network,
    fields,
    contents.num_classes,
    contents.variables,
    known,
    variant,
    source=source,
  )


def _variant_of(contents):
  return contents.weights and contents.weights.variant


def _complete(fields, contents):
  """Returns the fields, completed by those of released weights they are of."""
  if contents.weights is None:
    return dict(fields)
  published = VARIANTS[contents.weights.variant]
  names = find_architecture(contents.network).names('network')
  published = {key: published[key] for key in names if key in published}
  return {**published, **fields}


def _assume(name, fields, missing, source):
  """Returns values for the fields that are missing, with a warning."""
  assumed = find_architecture(name).state_dict.assume(fields)
  if unknown := sorted(missing - assumed.keys()):
    raise UserError(
      f'{source} does not contain its {", ".join(unknown)}; give '
      f'--model={",".join(f"{name}=VALUE" for name in unknown)}, or a variant '
      'that has them, --model=NAME'
    )
  values = ', '.join(f'{key} {assumed[key]}' for key in sorted(missing))
  logging.warning(
    '%s does not contain its %s; assumed is %s, as published networks of this '
    'shape have it; name another by --model=NAME (a variant, or gelu or relu)',
    source,
    ', '.join(sorted(missing)),
    values,
  )
  return {key: assumed[key] for key in missing}


def _warn_of_assumed_input(trained):
  """Logs what is assumed of the images of weights, if anything is."""
  assumed = sorted(trained.assumed - {'class_names'})
  if assumed:
    logging.warning(
      '%s does not contain %s of its images; assumed are %s, as for published '
      'networks; name another by --model=VARIANT, or by the tag of released '
      "weights, --model=TAG, or put timm's config.json beside the weights",
      trained.source,
      ', '.join(assumed),
      ', '.join(f'{key} {getattr(trained, key)}' for key in assumed),
    )
