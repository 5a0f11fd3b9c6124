"""The files of a trained network's repository on the Hugging Face Hub."""

import json
from typing import Any

from convmixer_jax.config import height_width
from convmixer_jax.data.class_names import readable
from convmixer_jax.errors import UserError
from convmixer_jax.models import find_architecture
from convmixer_jax.models.timm_model import TimmModel
from convmixer_jax.pretrained import hub, hub_card, weight_files
from convmixer_jax.pretrained.trained_model import TrainedModel

WEIGHTS = 'model.safetensors'
CARD = 'README.md'


def make_files(
  trained: TrainedModel, repository: str, license_id: str | None = None
) -> dict[str, bytes]:
  """Returns the contents of the files by name.

  The weights with timm's names, the config.json that timm creates the network
  from, and the model card.

  Args:
    trained: the network.
    repository: as OWNER/NAME.
    license_id: of the weights, as the hub names it; None to state none.

  Raises:
    UserError: the network has no names in files of weights.
  """
  found = find_timm_model(trained)
  weights = weight_files.to_safetensors(trained, f'hf://{repository}')
  config = json.dumps(timm_config(trained, found), indent=2) + '\n'
  card = hub_card.write(trained, repository, found, license_id)
  return {
    WEIGHTS: weights,
    hub.CONFIG: config.encode(),
    CARD: card.encode(),
  }


def find_timm_model(trained: TrainedModel) -> TimmModel | None:
  """Returns how timm creates a network; None if timm does not have it.

  Raises:
    UserError: the network has no names in files of weights.
  """
  state_dict = find_architecture(trained.network).state_dict
  if state_dict is None:
    raise UserError(
      f'{trained.network!r} has no state_dict, so its weights cannot be '
      'written for the hub; give its Architecture one, as in '
      'docs/adding_a_network.md'
    )
  if state_dict.timm_model is None:
    return None
  return state_dict.timm_model(
    trained.network_fields(),
    trained.num_classes,
    trained.channels,
    trained.image_size,
  )


def timm_config(
  trained: TrainedModel, found: TimmModel | None
) -> dict[str, Any]:
  """Returns the content of timm's config.json.

  Args:
    trained: the network.
    found: from `find_timm_model`. Without a name in timm, `architecture` is
      that of this package, which timm refuses as unknown.
  """
  height, width = height_width(trained.image_size)
  input_size = [trained.channels, height, width]
  config: dict[str, Any] = {
    'architecture': trained.network,
    'num_classes': trained.num_classes,
  }
  pretrained = {
    'num_classes': trained.num_classes,
    'input_size': input_size,
    'fixed_input_size': False,
    'interpolation': trained.eval_interpolation,
    'crop_pct': trained.eval_crop_fraction,
    'crop_mode': 'center',
    'mean': list(trained.mean),
    'std': list(trained.std),
    'pool_size': None,
    'classifier': 'head',
  }
  if trained.test_input is not None:
    size, crop_fraction = trained.test_input
    pretrained['test_input_size'] = [trained.channels, *height_width(size)]
    pretrained['test_crop_pct'] = crop_fraction
  if found is not None:
    pretrained['first_conv'] = found.first_conv
    pretrained['classifier'] = found.classifier
  if found is not None and found.architecture is not None:
    config['architecture'] = found.architecture
    pretrained['fixed_input_size'] = 'img_size' in found.model_args
    if found.model_args:
      config['model_args'] = dict(found.model_args)
  if trained.class_names is not None and 'class_names' not in trained.assumed:
    names = list(trained.class_names)
    config['label_names'] = names
    words = readable(names)
    if words != names:
      config['label_descriptions'] = dict(zip(names, words, strict=True))
  return config | {'pretrained_cfg': pretrained}
