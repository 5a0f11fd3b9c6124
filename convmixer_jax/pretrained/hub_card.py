"""The model card of a repository on the Hugging Face Hub: its README.md."""

import huggingface_hub

from convmixer_jax.analysis import flops
from convmixer_jax.config import describe_size, height_width
from convmixer_jax.data.known_sets import (
  HUGGING_FACE,
  base_name,
  data_name,
  hub_name,
)
from convmixer_jax.models import describe
from convmixer_jax.models.timm_model import TimmModel
from convmixer_jax.own_names import PREFIX as OBJECT
from convmixer_jax.pretrained.trained_model import TrainedModel

_TASK = 'image-classification'
_METRICS = {  # that the hub shows, by their names there
  'eval_accuracy': ('accuracy', 'Top-1 accuracy'),
  'eval_accuracy_top5': ('top_5_accuracy', 'Top-5 accuracy'),
}
_MOST_CLASSES = 20  # that are listed


def write(
  trained: TrainedModel,
  repository: str,
  found: TimmModel | None,
  license_id: str | None = None,
) -> str:
  """Returns the text of the card.

  Args:
    trained: the network.
    repository: as OWNER/NAME.
    found: how timm creates the network, None if timm does not have it.
    license_id: of the weights, as the hub names it; None to state none.
  """
  parts = [
    f'---\n{_metadata(trained, repository, found, license_id)}\n---',
    f'# {repository.split("/")[1]}',
    f'{describe(trained.model)}{_trained_on(trained)}, by '
    "convmixer_jax, in JAX; the weights have timm's names of tensors.",
    _facts(trained),
    '## With timm',
    _with_timm(trained, repository, found),
    '## With convmixer_jax',
    '```python\nimport convmixer_jax\n\n'
    f"trained = convmixer_jax.load('hf://{repository}')\n"
    "for prediction in trained.predict('photo.jpg'):\n"
    '  print(prediction.names, prediction.probabilities)\n```',
    'Logits of an array of pixels: `trained.logits(images)`.',
  ]
  if trained.class_names is not None:
    parts += ['## Classes', _classes(trained)]
  return '\n\n'.join(parts) + '\n'


def _metadata(trained, repository, found, license_id):
  """Returns the YAML between the dashes."""
  dataset, _, split = _data(trained)
  on_hub = hub_name(_full_name(trained))
  results = [
    huggingface_hub.EvalResult(
      task_type=_TASK,
      dataset_type=on_hub or dataset,
      dataset_name=dataset,
      dataset_split=split,
      metric_type=kind,
      metric_name=name,
      metric_value=round(trained.metrics[key], 6),
    )
    for key, (kind, name) in _METRICS.items()
    if dataset and key in trained.metrics
  ]
  data = huggingface_hub.ModelCardData(
    library_name='timm' if found is not None else 'convmixer_jax',
    license=license_id,
    pipeline_tag=_TASK,
    tags=[_TASK, 'jax', trained.network]
    + (['timm'] if found is not None else []),
    datasets=[on_hub] if on_hub else None,
    metrics=['accuracy'] if results else None,
    model_name=repository.split('/')[1] if results else None,
    eval_results=results or None,
  )
  return data.to_yaml()


def _data(trained):
  """Returns name, training split and held-out split of the data set, or ''."""
  name = base_name(_full_name(trained))
  name = name.removeprefix(HUGGING_FACE).removeprefix(OBJECT)
  dataset = {} if trained.config is None else trained.config.dataset
  if dataset:
    name = data_name(name, dataset) if name else ''
  return name, dataset.get('train_split', ''), dataset.get('eval_split', '')


def _full_name(trained):
  """Returns `config.dataset.name`, else what is recorded of the data, or ''."""
  if trained.config is not None and trained.config.dataset.get('name'):
    return trained.config.dataset.name
  return (trained.data or {}).get('name', '')


def _trained_on(trained):
  dataset, split, _ = _data(trained)
  if not dataset:
    return ''
  return f' trained on {dataset}' + (f' ({split})' if split else '')


def _facts(trained):
  """Returns a table of figures."""
  height, width = height_width(trained.image_size)
  shape = (height, width), trained.channels
  macs = flops.count_forward(trained.model, shape[0], 1, shape[1]).total
  crop = 100 * trained.eval_crop_fraction
  answer = 'several classes an image' if trained.multi_label else 'one class'
  rows = {
    'Parameters': f'{flops.count_parameters(trained.model, *shape):,}',
    'MACs': f'{macs:,}',
    'Images': f'{describe_size(trained.image_size)}, {trained.channels} '
    f'channels, of which the central {crop:g} % are seen',
    'Outputs': f'{trained.num_classes:,} logits, {answer}',
  }
  _, _, split = _data(trained)
  for key, value in trained.metrics.items():
    name = key.removeprefix('eval_').replace('_', ' ')
    where = f', {split}' if split else ''
    rows[f'Held-out {name}{where}'] = (
      f'{value:.4f}' if 'loss' in key else f'{100 * value:.2f} %'
    )
  if trained.step:
    rows['Step'] = f'{trained.step:,}'
  lines = [f'| {name} | {value} |' for name, value in rows.items()]
  return '\n'.join(['| | |', '| --- | --- |', *lines])


def _with_timm(trained, repository, found):
  if found is None:
    return (
      f'timm does not have this network (`{trained.network}`); load it as '
      'below.'
    )
  if found.architecture is not None:
    code = (
      'import timm\n\n'
      f"model = timm.create_model('hf-hub:{repository}', pretrained=True)"
    )
    text = ''
  else:
    code = (
      f'{found.imports}\nfrom huggingface_hub import hf_hub_download\n'
      'from safetensors.torch import load_file\n\n'
      f'model = {found.creation}\n'
      f"weights = hf_hub_download('{repository}', 'model.safetensors')\n"
      'model.load_state_dict(load_file(weights))'
    )
    text = (
      'timm has the network but no name for a model of this size, so '
      '`timm.create_model` does not create it; its class does:\n\n'
    )
  mean, std = (tuple(values) for values in (trained.mean, trained.std))
  code += (
    '\nmodel.eval()  # '
    + f'takes images normalised with mean {mean}, std {std}'
  )
  return f'{text}```python\n{code}\n```'


def _classes(trained):
  names = trained.labels()
  shown = ', '.join(name.replace('`', "'") for name in names[:_MOST_CLASSES])
  more = len(names) - _MOST_CLASSES
  return shown + (f' and {more:,} more, in config.json' if more > 0 else '')
