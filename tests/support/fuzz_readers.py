"""The readers of files from anyone that fuzz tests corrupt files for."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import fuzz_images
import fuzz_run_files
import fuzz_tars
import fuzz_weights
import numpy as np


class Reader(NamedTuple):
  """A reader, and what it is given.

  Attributes:
    set_up: is given an empty directory and a run; returns a function that
      reads a content, and sound contents by name.
    corrupt: is given these contents; returns a corrupted one.
    limit_mib: memory that reading may take, besides what it takes of sound
      files.
  """

  set_up: Callable[
    [pathlib.Path, str], tuple[Callable[[Any], object], Mapping[str, Any]]
  ]
  corrupt: Callable[[Mapping[str, Any], np.random.Generator], Any]
  limit_mib: int


READERS = {
  # At most 178,956,970 pixels; see `decode.MAX_PIXELS`.
  'images': Reader(fuzz_images.set_up, fuzz_images.corrupt_image, 2500),
  'safetensors': Reader(
    fuzz_weights.set_up_safetensors, fuzz_weights.corrupt_safetensors, 300
  ),
  'pth': Reader(fuzz_weights.set_up_pth, fuzz_weights.corrupt_pth, 300),
  'run': Reader(fuzz_run_files.set_up, fuzz_run_files.corrupt_file, 300),
  'checkpoint': Reader(
    fuzz_run_files.set_up_checkpoint, fuzz_run_files.corrupt_file, 500
  ),
  'tars': Reader(fuzz_tars.set_up, fuzz_tars.corrupt_tar, 300),
}
