"""What sources of image files share: reading a file, naming it, its size."""

import os
from typing import Any

from convmixer_jax.data import image_files
from convmixer_jax.data.encoded_images import EncodedImages
from convmixer_jax.errors import UserError

NAME = 'folder'  # as config.dataset.name, and in the identity of the data
_MAX_BYTES = 2**30  # longer files are not read
_MAX_STATS = 2**17  # files whose sizes are added up


class FileSource(EncodedImages):
  """A base of sources whose images are files.

  Raises:
    UserError: on reading, if a file cannot be read or decoded, or has one pixel
      only.
  """

  def path(self, index: int) -> bytes:
    """Returns the path of an image."""
    raise NotImplementedError

  def label(self, index: int) -> Any:
    """Returns the label of an image, or a list of its labels."""
    raise NotImplementedError

  def stored_example(self, index: int) -> tuple[bytes, Any]:
    """Returns the bytes of an image file, and its label."""
    path = self.path(index)
    try:
      with open(path, 'rb') as file:
        data = file.read(_MAX_BYTES + 1)
    except OSError as error:
      raise UserError(
        f'{self.where(index)} cannot be read ({error.strerror or error}); put '
        'it back, or start again without it'
      ) from error
    if len(data) > _MAX_BYTES:
      raise UserError(
        f'{self.where(index)} has more than {_MAX_BYTES:,} bytes; make it '
        'smaller or leave it out of the data set'
      )
    return data, self.label(index)

  def where(self, index: int) -> str:
    """Returns the path of an image, for an error."""
    return image_files.display_name(os.fsdecode(self.path(index)))

  def count_bytes(self) -> int:
    """Returns the bytes of all images; 0 where there are very many."""
    if len(self) > _MAX_STATS:
      return 0
    total = 0
    for index in range(len(self)):
      try:
        total += os.stat(self.path(index)).st_size
      except OSError:  # which reading reports
        continue
    return total
