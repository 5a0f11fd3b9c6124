"""The directory of a finished or running training: `load_run(workdir)`."""

import contextlib
import dataclasses
import os
from typing import Any

import ml_collections
from etils import epath
from flax import linen as nn

from convmixer_jax import files
from convmixer_jax.bucket_access import check_access
from convmixer_jax.checkpoints import workdir as workdir_lib
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.checkpoints.train_state import evaluates_ema
from convmixer_jax.config import image_shape
from convmixer_jax.data.identity import Identity
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models import find_architecture, own_modules
from convmixer_jax.own_names import Named
from convmixer_jax.pretrained import thresholds
from convmixer_jax.pretrained.check_values import by_name, check_values
from convmixer_jax.pretrained.images import Images
from convmixer_jax.pretrained.predictions import Prediction
from convmixer_jax.pretrained.source import Checkpoint
from convmixer_jax.pretrained.trained_model import TrainedModel


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run left in its directory; nothing here writes to it.

  Attributes:
    workdir: the directory.
    config: what it was started with, as `train_and_evaluate` takes it; change
      it as you like to start another.
    metrics: the rows of `metrics.csv` by step, as `pandas.DataFrame` and
      `plots.learning_curves` take them; a row lacks what was not measured.
    class_names: as the data set has them, such as 'n01440764'; None if the run
      did not note them.
    name: the directory as it was given.
    data: identity of its data (see `data.identity`); None if the run did not
      record it.
  """

  workdir: epath.Path
  config: ml_collections.ConfigDict
  metrics: list[dict[str, float]]
  class_names: tuple[str, ...] | None
  name: str
  data: Identity | None = None
  _loaded: dict[tuple[int, bool | None], TrainedModel] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def find_step(self, checkpoint: Checkpoint = None) -> int:
    """Returns the step of a checkpoint.

    Args:
      checkpoint: 'best' for that of the best held-out accuracy, 'newest', a
        step, or None for the best or, where none was evaluated, the newest.

    Raises:
      UserError: there is no such checkpoint.
    """
    with self._reader() as reader:
      return self._find_step(reader, checkpoint)[0]

  @default_settings()
  def load(
    self,
    checkpoint: Checkpoint = None,
    *,
    model: nn.Module | Named | None = None,
    ema: bool | None = None,
  ) -> TrainedModel:
    """Reads a network back, on the first device of this process.

    Args:
      checkpoint: as for `find_step`.
      model: the network, if the run was given it as an object.
      ema: whether to read the exponential moving averages of the parameters, or
        the parameters themselves; None for those that the run evaluates.

    Raises:
      UserError: the network is needed, or is another one. Or there is no such
        checkpoint, it is damaged, has values that no trained network has, or
        is not of the network that config.json describes.
    """
    config = workdir_lib.read_config(self.workdir)  # ours may be changed by now
    fields = dict(config.model)
    network = fields.pop('name')
    if model is not None:
      _check_model(model, config, self.workdir)
    architecture = find_architecture(network)
    evaluated = evaluates_ema(config)
    if ema is None:
      ema = evaluated
    elif ema and not config.get('ema_decay'):
      raise UserError(
        f'{self.workdir} has no averages of its parameters, since '
        'config.ema_decay was 0; leave out ema'
      )
    with self._reader() as reader:
      step, chosen_as = self._find_step(reader, checkpoint)
      variables = reader.read_variables(step, architecture.head, ema=ema)
    num_classes = architecture.num_classes(variables['params'])
    num_names = len(self.class_names or ())
    if num_names not in (0, num_classes):
      raise UserError(
        f'{self.workdir}: labels.json has {num_names} names, and '
        f'the network {num_classes} classes; restore the labels.json that '
        'train.py wrote, or remove it'
      )
    rows = {row['step']: row for row in self.metrics}
    multi_label = config.dataset.get('multi_label', False)
    chosen = None
    if multi_label and ema == evaluated:
      chosen = thresholds.read(self.workdir, step, num_classes)
    test_input = config.augment.get('test_input')  # of converted weights
    if eval_size := config.augment.get('eval_image_size'):
      test_input = eval_size, config.augment.eval_crop_fraction
    trained = TrainedModel.create(
      network,
      fields,
      num_classes,
      variables,
      {
        'image_size': config.dataset.image_size,
        'eval_crop_fraction': config.augment.eval_crop_fraction,
        'test_input': test_input,
        'eval_image_size': eval_size or None,
        'eval_interpolation': config.augment.get('eval_interpolation'),
        'mean': config.dataset.mean,
        'std': config.dataset.std,
        'class_names': self.class_names,
        'data': self.data,
        'multi_label': multi_label,
        'thresholds': chosen and chosen.values,
      },
      source=self.name,
      step=step,
      checkpoint=chosen_as,
      config=config,
      metrics={
        name: value
        for name, value in rows.get(step, {}).items()
        if name.startswith('eval_') and ema == evaluated
      },
      ema=ema,
      dtype=config.dtype,
      thresholds_from=chosen.chosen_on if chosen else '',
    )
    _check_shapes(trained, self.workdir)
    check_values(
      by_name(trained.variables), trained.origin, 'choose another checkpoint'
    )
    return trained

  def predict(
    self,
    images: Images,
    *,
    checkpoint: Checkpoint = None,
    ema: bool | None = None,
    **options: Any,
  ) -> list[Prediction]:
    """Classifies images; see `TrainedModel.predict`.

    The network is read at the first call, and again if it is another
    checkpoint, as of a run that continues.

    Args:
      images: paths of files and folders, images of Pillow or arrays.
      checkpoint: as for `find_step`.
      ema: as for `load`.
      **options: as for `TrainedModel.predict`.

    Raises:
      UserError: see `load` and `TrainedModel.predict`.
    """
    key = self.find_step(checkpoint), ema
    if key not in self._loaded:
      trained = self.load(checkpoint, ema=ema)
      self._loaded.clear()
      self._loaded[key] = trained
    return self._loaded[key].predict(images, **options)

  def _find_step(self, reader, checkpoint):
    """Returns the step, and 'best' or 'newest' if that is why."""
    steps = reader.steps()
    if not steps:
      every = self.config.checkpoint_every_steps
      raise UserError(
        f'{self.workdir} has no checkpoint yet; the first is written after '
        f'an evaluation or config.checkpoint_every_steps = {every} steps'
      )
    those = 'those of steps' if len(steps) > 1 else 'that of step'
    existing = f'{those} {", ".join(map(str, steps))}'
    if checkpoint in (None, 'best'):
      best = reader.best_step()
      if best is not None:
        return best, 'best'
      if checkpoint == 'best':
        raise UserError(
          f'no checkpoint of {self.workdir} was evaluated, so none is the '
          f'best; it has {existing}'
        )
    if checkpoint in (None, 'newest'):
      return steps[-1], 'newest'
    if checkpoint not in steps:
      raise UserError(
        f'{self.workdir} has no checkpoint of step {checkpoint}; it '
        f'has {existing}'
      )
    return checkpoint, None

  def _reader(self):
    return contextlib.closing(CheckpointReader(self.workdir))


def _check_model(model, config, workdir):
  """Makes a network known that the run was given as an object."""
  recorded = config.model.name
  if not own_modules.is_object(recorded):
    raise UserError(
      f'{workdir} has the network {recorded!r}, which its config.json '
      'describes; leave out model'
    )
  name = own_modules.register(model, image_shape(config.dataset))
  if name != recorded:
    raise UserError(
      f'{workdir} is of the network {_without_prefix(recorded)}, and model is '
      f'{_without_prefix(name)}; give the one that was trained'
    )


def _without_prefix(name):
  return name.removeprefix(own_modules.PREFIX)


def _check_shapes(trained, workdir):
  """Raises UserError if the arrays are not those of the run's network."""
  architecture = find_architecture(trained.network)
  needed = _shapes(
    architecture.variable_shapes(
      trained.model, trained.image_size, trained.channels
    )
  )
  found = _shapes(trained.variables)
  for name in sorted(needed.keys() | found.keys()):
    if needed.get(name) != found.get(name):
      raise UserError(
        f'{workdir}: config.json and checkpoint {trained.step} do not fit: '
        f'{name} is {needed.get(name, "missing")} by the config, and '
        f'{found.get(name, "missing")} in the checkpoint; restore the '
        'config.json that train.py wrote'
      )


def _shapes(variables):
  return {name: list(leaf.shape) for name, leaf in by_name(variables).items()}


def load_run(workdir: str | os.PathLike[str]) -> Run:
  """Opens the directory of a run; also `convmixer_jax.load_run`.

  Args:
    workdir: of `train.py` or `train_and_evaluate`; local, or in a bucket.

  Raises:
    UserError: it is not a run directory, or in a bucket that cannot be read.
  """
  directory = files.absolute_path(workdir)
  check_access(directory)
  return open_run(directory, str(workdir))


def open_run(workdir: epath.Path, name: str) -> Run:
  """Opens the directory of a run that is known to be readable.

  Args:
    workdir: as `files.absolute_path` returns it.
    name: the directory as it was given.

  Raises:
    UserError: it is not a run directory.
  """
  config = workdir_lib.read_config(workdir)
  rows = read_table(workdir / 'metrics.csv')
  class_names = workdir_lib.read_class_names(workdir)
  data = workdir_lib.read_data(workdir)
  if class_names is None and data is not None:
    class_names = tuple(data['class_names'])
  return Run(workdir, config, list(rows.values()), class_names, name, data)
