r"""Evaluates a trained network on any prepared data set.

  python -m convmixer_jax evaluate --workdir=RUN | --weights=FILE \
    [--dataset=NAME] [--split=SPLIT] [--data_dir=DIR] [--size=PIXELS] \
    [--output=DIR]

NAME is digits or a TFDS set that `convmixer prepare` made; a run is by default
evaluated on its own held-out split. The network's outputs are found by the
names of the classes: one of ImageNet's 1,000 classes can be evaluated on
imagenette's ten. Some sets have rules of their own:

  imagenet2012_real       any of an image's labels is right; images without a
                          label are left out. A class's row has the images
                          rightly taken for it and the others of which it is
                          the first label.
  imagenet_a, imagenet_r  only the 200 classes that the set has images of take
                          part; the logits of the other 800 are left out.

ImageNet-V2 (imagenet_v2) and imagenet_sketch are scored as ImageNet itself.

The output directory gets result.json with all figures, classes.csv with a row
for each class, confusion.png, and most_wrong.png: the wrong pictures for which
the network found what is right least probable.
"""

from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import data_flags, source_flags
from convmixer_jax.cli import output as output_lib
from convmixer_jax.errors import UserError

flags.adopt_module_key_flags(source_flags)  # so that --help shows them
flags.adopt_module_key_flags(data_flags)
_DATASET = flags.DEFINE_string(
  'dataset', None, "digits or a set of TFDS; default: the run's"
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'to evaluate, in the syntax of TFDS; default: the held-out one'
)
_OUTPUT = flags.DEFINE_string('output', None, 'a directory for the files')


def main(argv: Sequence[str]) -> None:
  """Evaluates, prints the figures, and writes the files."""
  if len(argv) > 1:
    raise UserError(
      f'{argv[1]!r} is no flag; --dataset=NAME names the data set'
    )
  network = source_flags.from_flags()

  import jax

  from convmixer_jax import files
  from convmixer_jax.data.class_names import readable
  from convmixer_jax.evaluation import protocols, report
  from convmixer_jax.evaluation.per_image import score_images

  config = network.eval_config(
    source_flags.BATCH_SIZE.value, source_flags.SIZE.value
  )
  dataset = config.dataset
  split = _choose_data(dataset, network.dataset)
  protocol = protocols.protocol_of(dataset.name)
  source, classes = protocols.open_test_set(
    dataset, split, network.class_names, network.model.num_classes
  )
  names = readable(classes.names)
  if network.class_names is None:
    print(
      'WARNING: nobody noted the names of the classes of the network; they are '
      f'taken for those of {dataset.name}, in its order'
    )
  if protocol.num_present not in (None, len(names)):
    print(
      f'WARNING: {dataset.name} has images of {len(names)} classes, not of '
      f'{protocol.num_present}: it is not the full set'
    )
  output = None
  if _OUTPUT.value is not None:
    output_lib.keep_going()  # the files are what is wanted
    output = files.absolute_path(_OUTPUT.value)
    files.check_access(output, writes=True)
    _make_directory(output)

  size = dataset.image_size
  print(
    f'{network.name} on {dataset.name} {split}: {len(source):,} images at '
    f'{size} x {size}, {len(names):,} classes',
    flush=True,
  )
  if protocol.about:
    print(f'The rules of {dataset.name}: {protocol.about}')
  scores = score_images(
    network.model, network.variables, source, config, classes
  )
  metrics = scores.metrics()
  images_per_sec = len(source) / scores.seconds
  rows = report.class_rows(scores, names)
  print(report.table(rows))
  print(
    f'top-1 {100 * metrics["eval_accuracy"]:.2f} %  '
    f'top-5 {100 * metrics["eval_accuracy_top5"]:.2f} %  '
    f'loss {metrics["eval_loss"]:.4f}  {images_per_sec:,.1f} images/s'
  )
  if output is None:
    return
  result = {
    'network': network.name,
    'dataset': dataset.name,
    'split': split,
    'rules': protocol.about,
    'image_size': size,
    'eval_crop_fraction': config.augment.eval_crop_fraction,
    'images': len(scores.number),
    'images_left_out': len(source) - len(scores.number),
    **metrics,
    'images_per_sec': images_per_sec,
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }
  written = report.write(output, result, rows, scores, names, source, config)
  print(f'In {output}: {", ".join(written)}')


def _choose_data(dataset, of_run) -> str:
  """Fills in the name and directory of the set; returns the split."""
  from convmixer_jax.evaluation.protocols import default_split

  name, data_dir = _DATASET.value, data_flags.DATA_DIR.value
  if of_run is None and name is None:
    raise UserError('--dataset=NAME is needed: weights are of no data set')
  dataset.name = of_run.name if name is None else name
  if data_dir is not None:
    dataset.data_dir = data_dir
  elif of_run is not None:
    dataset.data_dir = of_run.get('data_dir', '')  # not in converted weights
  if _SPLIT.value is not None:
    return _SPLIT.value
  if of_run is not None and of_run.name == dataset.name:
    return of_run.eval_split
  return default_split(dataset.name, dataset.data_dir)


def _make_directory(path):
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'--output={path} is no directory that can be written to '
      f'({error.strerror or error}); give another'
    ) from error
