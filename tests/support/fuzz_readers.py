"""The readers of foreign bytes that fuzz tests corrupt files for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fuzz_images
import fuzz_run_files
import fuzz_tars
import fuzz_weights
from corruption import corrupt


def _corrupt_any(cases, rng):
  names = sorted(cases)
  content, other = (
    cases[names[int(i)]] for i in rng.integers(len(names), size=2)
  )
  return corrupt(content, rng, other)


@dataclasses.dataclass(frozen=True)
class Reader:
  """A reader, and what it is given.

  Attributes:
    set_up: is given an empty directory; returns a function that reads a
      content, and sound contents by name.
    limit_mib: memory that reading may take besides what it takes at first.
    corrupt: returns one of the contents, corrupted.
    warm_up: returns contents that are read before memory is measured.
  """

  set_up: Callable[[Any], tuple[Callable[[Any], object], Mapping[str, Any]]]
  limit_mib: int
  corrupt: Callable[[Mapping[str, Any], Any], Any] = _corrupt_any
  warm_up: Callable[[Mapping[str, Any]], Sequence[Any]] = lambda cases: list(
    cases.values()
  )


READERS = {
  # At most 178,956,970 pixels; see `decode.MAX_PIXELS`.
  'images': Reader(fuzz_images.set_up, 2500, fuzz_images.corrupt_image),
  'safetensors': Reader(
    fuzz_weights.set_up_safetensors, 300, fuzz_weights.corrupt_safetensors
  ),
  'pth': Reader(fuzz_weights.set_up_pth, 300, fuzz_weights.corrupt_pth),
  'run': Reader(fuzz_run_files.set_up, 300, fuzz_run_files.corrupt_file),
  'checkpoint': Reader(
    fuzz_run_files.set_up_checkpoint, 500, fuzz_run_files.corrupt_file
  ),
  'tars': Reader(fuzz_tars.set_up, 300, fuzz_tars.corrupt_tar),
}
