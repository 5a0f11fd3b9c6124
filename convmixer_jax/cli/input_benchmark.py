r"""Measures decoding and augmentation side by side with timm.

  python -m convmixer_jax benchmark input --folder=DIR \
    --timm_python=timm-env/bin/python
"""

from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import command, output, output_files
from convmixer_jax.cli.benchmark_flags import OUTPUT, ROUNDS, TIMM_PYTHON
from convmixer_jax.cli.data_flags import DATA_DIR
from convmixer_jax.errors import UserError

_FOLDER = flags.DEFINE_string(
  'folder', None, 'folder of JPEG files, searched recursively'
)
_DATASET = flags.DEFINE_string(
  'dataset', None, 'a prepared TFDS set (array_record), in place of a folder'
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', 224, 'side of the augmented images, in pixels'
)
_CHUNK = flags.DEFINE_integer('chunk', 100, 'images per round', lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Measures, prints the table, and writes the figures if asked to."""
  command.refuse_arguments(argv)
  from convmixer_jax.benchmarks import input as input_benchmark

  output.keep_going()  # a long measurement survives its terminal
  folder, dataset = _FOLDER.value, _DATASET.value
  if (folder is None) == (dataset is None):
    raise UserError('give the images: one of --folder and --dataset')
  path = output_files.check_file(OUTPUT.value)
  if folder is not None:
    files = input_benchmark.read_folder(folder)
  else:
    files = input_benchmark.read_dataset(dataset or '', DATA_DIR.value)
  result = input_benchmark.run(
    files,
    timm_python=TIMM_PYTHON.value,
    image_size=_IMAGE_SIZE.value,
    rounds=ROUNDS.value or 10,
    chunk=_CHUNK.value,
  )
  print(input_benchmark.table(result))
  if path:
    output_files.write_json(path, result)
