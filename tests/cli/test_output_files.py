"""The files of `--output`, and what else is in its directory."""

import os

from etils import epath

from convmixer_jax.cli.output_files import (
  make_directory,
  others_line,
  size_lines,
)


def test_sizes_of_files_have_a_unit_that_shows_them():
  lines = size_lines({'config.json': bytes(1234), 'model': bytes(2_500_000)})
  assert [line.split() for line in lines] == [
    ['config.json', '1.23', 'kB'],
    ['model', '2.50', 'MB'],
  ]


def test_other_files_of_the_directory_are_named(tmp_path):
  written = ['model.json', 'model.stablehlo']
  for name in written:
    (tmp_path / name).touch()
  assert others_line(epath.Path(tmp_path), written) is None
  (tmp_path / 'model.onnx').touch()
  start = f'Left in {tmp_path} as before, not written by this command:'
  assert others_line(epath.Path(tmp_path), written) == f'{start} model.onnx'
  for number in range(5):
    (tmp_path / f'{number}').mkdir()
  with open(os.fsencode(tmp_path) + b'/\xff\n', 'w'):
    pass
  with make_directory(str(tmp_path)) as output:  # whose lock is not named
    line = others_line(output, written)
  assert line == f'{start} 0, 1, 2, 3, 4 and 2 more'
