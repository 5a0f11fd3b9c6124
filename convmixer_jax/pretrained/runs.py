"""A finished or running training, opened for study: `load_run(workdir)`."""

import contextlib
import dataclasses
from typing import Any, Literal

import ml_collections
from etils import epath
from flax import linen as nn

from convmixer_jax import files
from convmixer_jax.checkpoints import workdir as workdir_lib
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.checkpoints.reader import CheckpointReader
from convmixer_jax.errors import UserError
from convmixer_jax.models import DEFAULT, create_model, find_architecture


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
  """

  workdir: epath.Path
  config: ml_collections.ConfigDict
  metrics: list[dict[str, float]]
  class_names: tuple[str, ...] | None

  def find_step(self, step: int | Literal['best'] | None = None) -> int:
    """Returns the number of a checkpoint.

    Args:
      step: None for the newest checkpoint, 'best' for that of the best
        held-out accuracy, or the number of one.

    Raises:
      UserError: there is no such checkpoint.
    """
    with self._reader() as reader:
      steps = reader.steps()
      if not steps:
        every = self.config.checkpoint_every_steps
        raise UserError(
          f'{self.workdir} has no checkpoint yet; the first is written after '
          f'an evaluation or config.checkpoint_every_steps = {every} steps'
        )
      if step is None:
        return steps[-1]
      there = f'there are {", ".join(map(str, steps))}'
      if step == 'best':
        best = reader.best_step()
        if best is None:
          raise UserError(
            f'no checkpoint of {self.workdir} was evaluated, so none is the '
            f'best; {there}'
          )
        return best
      if step not in steps:
        raise UserError(
          f'{self.workdir} has no checkpoint of step {step}; {there}'
        )
      return step

  def restore(
    self, step: int | Literal['best'] | None = None
  ) -> tuple[nn.Module, dict[str, Any]]:
    """Reads a network back, on the devices that are here.

    Args:
      step: as for `find_step`.

    Returns:
      The model and its variables (`params` and `batch_stats`, float32), for
      `model.apply(variables, images, train=False)`.

    Raises:
      UserError: there is no such checkpoint.
    """
    config = workdir_lib.read_config(self.workdir)  # ours may be changed by now
    architecture = find_architecture(self.saved_network())
    with self._reader() as reader:
      variables = reader.read_variables(self.find_step(step), architecture.head)
    num_classes = architecture.num_classes(variables['params'])
    model = create_model(config.model, num_classes, config.dtype)
    return architecture.on_default_platform(model), variables

  def saved_network(self) -> str:
    """Returns the name of the run's network, as in `config.model.name`."""
    saved = workdir_lib.read_config(self.workdir)
    return saved.model.get('name', DEFAULT)

  def _reader(self):
    return contextlib.closing(CheckpointReader(self.workdir))


def load_run(workdir: str) -> Run:
  """Opens the directory of a run; also `convmixer_jax.load_run`.

  Args:
    workdir: of `train.py` or `train_and_evaluate`; local, or in a bucket.

  Raises:
    UserError: it is not a run directory, or in a bucket that cannot be read.
  """
  directory = files.absolute_path(str(workdir))
  files.check_access(directory)
  config = workdir_lib.read_config(directory)
  rows = read_table(directory / 'metrics.csv')
  class_names = workdir_lib.read_class_names(directory)
  return Run(directory, config, list(rows.values()), class_names)
