r"""Evaluates a trained network on a data set or on a folder of images.

  python -m convmixer_jax evaluate --source=SOURCE \
    [--dataset=NAME] [--split=SPLIT] [--data_dir=DIR] \
    [--size=PIXELS|HEIGHT,WIDTH] [--output=DIR]

NAME is digits, a TFDS set that `convmixer prepare` made, hf:OWNER/NAME of the
Hugging Face Hub, or the path of a directory that has a folder of images for
each class; a run is by default evaluated on its own held-out split. The
network's outputs are matched to the classes by name: one of ImageNet's 1,000
classes can be evaluated on imagenette's ten. Some sets have their own rules:

  imagenet2012_real       any of an image's labels is right; images without a
                          label are left out. A class's row has the images
                          correctly predicted as it and the others of which
                          it is the first label.
  imagenet_a, imagenet_r  only the 200 classes that the set has images of are
                          used; the logits of the other 800 are left out.

ImageNet-V2 (imagenet_v2) and imagenet_sketch are scored as ImageNet itself.

A network with several labels an image is scored by mean average precision, F1,
precision and recall. `--choose_thresholds=SPLIT` first chooses, for each class,
the probability with the highest F1 on another split of the data set, and stores
it in the run's thresholds.json, from where evaluate, predict and export take
it; the threshold is 0.5 otherwise. There is no confusion.png then.

The output directory gets result.json with all figures, classes.csv with a row
for each class, confusion.png, calibration.png (accuracy by confidence), and
most_wrong.png: the misclassified images with the least probability of the right
class. The calibration error is the expected one (ECE): predictions are put into
15 bins of equal width by the probability of the predicted class; it is the mean
over images of |accuracy - mean probability| of their bins.
"""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from convmixer_jax.cli import (
  data_flags,
  output_files,
  output_flag,
  source_flags,
)
from convmixer_jax.cli import output as output_lib
from convmixer_jax.cli.batch_size_flag import BATCH_SIZE
from convmixer_jax.cli.output_flag import OUTPUT
from convmixer_jax.errors import UserError

if TYPE_CHECKING:
  import ml_collections

  from convmixer_jax.data.sources import Source
  from convmixer_jax.evaluation.protocols import Classes
  from convmixer_jax.pretrained.trained_model import TrainedModel

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
flags.adopt_module_key_flags(data_flags)
_DATASET = flags.DEFINE_string(
  'dataset',
  None,
  'digits, a TFDS data set, hf:OWNER/NAME, or a directory of images; default: '
  'that of the run',
)
_SPLIT = flags.DEFINE_string(
  'split',
  None,
  "split of the data set, in TFDS's syntax; default: the held-out one",
)
_CHOOSE_THRESHOLDS = flags.DEFINE_string(
  'choose_thresholds',
  None,
  'split on which to choose the threshold of each class, for several labels an '
  'image',
)
flags.adopt_module_key_flags(output_flag)


def main(argv: Sequence[str]) -> None:
  """Evaluates, prints the metrics, and writes the files."""
  if len(argv) > 1:
    raise UserError(
      f'{argv[1]!r} is not a flag; --source=SOURCE names the network, '
      '--dataset=NAME the data set'
    )
  network = source_flags.load_source()

  from convmixer_jax.evaluation import multi_label, protocols
  from convmixer_jax.evaluation.chosen_data import choose_data

  config = network.eval_config(BATCH_SIZE.value, source_flags.SIZE.value)
  dataset = config.dataset
  split, may_be_known = choose_data(
    dataset,
    network.config,
    name=_DATASET.value,
    data_dir=data_flags.DATA_DIR.value,
    split=_SPLIT.value,
  )
  opened = protocols.open_test_set(
    dataset, split, network.class_names, network.num_classes
  )
  notes = _notes(network, opened[0], dataset, opened[1], may_be_known)
  chosen = _CHOOSE_THRESHOLDS.value
  if chosen is not None:
    thresholds_of = multi_label.open_threshold_split(network, dataset, chosen)
    notes += multi_label.threshold_notes(
      network, dataset, thresholds_of[0], opened[0]
    )
  elif network.thresholds_from == multi_label.name_split(dataset, split):
    notes.append(multi_label.SAME_SPLIT)
  with contextlib.ExitStack() as stack:
    output = None
    if OUTPUT.value is not None:
      output_lib.keep_going()  # the files are the result
      output = stack.enter_context(output_files.make_directory(OUTPUT.value))
    print(network.loaded_line)
    for line in notes:
      print(line)
    if chosen is not None:
      network = multi_label.store_thresholds(
        network, *thresholds_of, config, chosen
      )
      print(f'Now in the run: {network.describe_thresholds()}', flush=True)
    _evaluate(network, *opened, config, split, output)


def _evaluate(network, source, classes, config, split, output):
  """Evaluates, prints the metrics, and writes the files."""
  import jax

  from convmixer_jax.config import describe_size, height_width
  from convmixer_jax.data.class_names import readable
  from convmixer_jax.data.known_sets import data_name
  from convmixer_jax.evaluation import protocols
  from convmixer_jax.evaluation.kinds import functions_of

  dataset, kind = config.dataset, functions_of(network)
  protocol = protocols.protocol_of(dataset.name)
  names = readable(classes.names)
  if protocol.num_present not in (None, len(names)):
    print(
      f'WARNING: {dataset.name} has images of {len(names)} classes, not of '
      f'{protocol.num_present}: it is not the full set'
    )
  size = dataset.image_size
  print(
    f'{data_name(dataset.name, dataset)} {split}: {len(source):,} images at '
    f'{describe_size(size)}, {len(names):,} classes',
    flush=True,
  )
  if network.test_input is not None and source_flags.SIZE.value is None:
    test_size, test_crop_fraction = network.test_input
    if height_width(test_size) != height_width(size):
      sides = ','.join(map(str, dict.fromkeys(height_width(test_size))))
      print(
        f'These weights were also tested at {describe_size(test_size)}, crop '
        f'{test_crop_fraction:g}: --size={sides} does so'
      )
  if protocol.about and not network.multi_label:
    print(f'The rules of {dataset.name}: {protocol.about}')
  results = kind.evaluate(network, source, config, classes)
  metrics = results.metrics()
  images_per_sec = len(source) / results.seconds
  rows = kind.report.class_rows(results, names)
  print(kind.report.table(rows))
  headline = kind.report.headline(results, rows)
  print(f'{headline}  {images_per_sec:,.1f} images/s')
  if output is None:
    return
  summary = {
    'network': network.name,
    'dataset': dataset.name,
    'split': split,
    'rules': protocol.about,
    'image_size': size,
    'eval_crop_fraction': config.augment.eval_crop_fraction,
    'eval_interpolation': config.augment.eval_interpolation,
    'images': len(results.number),
    'images_left_out': len(source) - len(results.number),
    **metrics,
    **kind.describe(network),
    'images_per_sec': images_per_sec,
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }
  with output_files.one_line_errors(output):
    written = kind.report.write(
      output, summary, rows, results, names, source, config
    )
  print(output_files.describe_written(output, written))


def _notes(
  network: 'TrainedModel',
  source: 'Source',
  dataset: 'ml_collections.ConfigDict',
  classes: 'Classes',
  may_be_known: bool,
) -> list[str]:
  """Returns lines on the classes, and on data that is also that of training.

  Raises:
    UserError: the run's own data set was changed after training.
  """
  from convmixer_jax.evaluation import training_data

  changed = None
  if may_be_known:
    changed = training_data.check_same_data(
      network, source, is_default=not _DATASET.value
    )
  notes: list[str | None] = []
  if classes.note and changed != []:
    notes.append(classes.note)
  if changed:
    notes.append(
      f'WARNING: {source.origin.name} differs from that of training: '
      f'{", ".join(changed)}'
    )
  trained_on = {} if network.config is None else network.config.dataset
  if changed is not None and 'train_split' in trained_on:
    notes.append(
      training_data.overlap_warning(source, dataset, trained_on['train_split'])
    )
  return list(filter(None, notes))
