"""The emulator of GPUs: what it finds in kernels that are wrong."""

import gpu_emulator
import ml_dtypes
import numpy as np
import pytest

from convmixer_jax.kernels.gpu import instances
from convmixer_jax.kernels.gpu.instances import Epilogue

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not gpu_emulator.COMPILER, reason='there is no g++'),
]

RESIDUAL = Epilogue(residual=True)
GRADIENT = Epilogue('relu', gradient=True)


@pytest.mark.parametrize(
  ('epilogue', 'line', 'changed', 'error'),
  [
    (RESIDUAL, '    SyncBlock();\n    if (row', '    if (row', 'race'),
    (RESIDUAL, '    SyncWarp();\n    if (is', '    if (is', 'not waited for'),
    (RESIDUAL, 'if (RESIDUAL) SyncWarp();', '', 'not waited for'),
    (
      RESIDUAL,
      'WaitForGroups<kStages - 2>',
      'WaitForGroups<kStages>',
      'not waited for',
    ),
    (RESIDUAL, '? rows_around : 0', '? rows_around : 99', 'copy from outside'),
    (RESIDUAL, 'column + 8 < shape.width ?', 'true ?', 'store outside of all'),
    (GRADIENT, 'if (rows_.IsOfBand(step))', '', 'store outside of all arrays'),
    (GRADIENT, '    SyncWarp();\n    if (is', '    if (is', 'not waited for'),
  ],
)
def test_emulator_finds_what_is_missing(
  tmp_path, epilogue, line, changed, error
):
  found = 0
  for source in gpu_emulator.CSRC.iterdir():
    text = source.read_text()
    found += text.count(line)
    (tmp_path / source.name).write_text(text.replace(line, changed))
  assert found
  shape = (2, 9, 20, 16)
  instance = instances.instance('forward', shape, 3, 1, epilogue, bands=1)
  arrays = 'x', 'residual', 'z', 'y', 'dy'
  # Two more images are memory that no array has.
  more = shape[0] + 2, *shape[1:]
  buffers = {name: np.zeros(more, ml_dtypes.bfloat16)[1:-1] for name in arrays}
  buffers['kernel'] = np.zeros((3, 3, 16), ml_dtypes.bfloat16)
  buffers['coefficients'] = np.zeros((3, 16), np.float32)
  wrong = gpu_emulator.Emulator(tmp_path, csrc=tmp_path)
  with pytest.raises(AssertionError, match=error):
    wrong.run(instance, buffers)
