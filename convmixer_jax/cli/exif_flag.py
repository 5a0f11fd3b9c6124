"""The flag of the commands that read photographs.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

EXIF_ROTATE = flags.DEFINE_bool(
  'exif_rotate',
  True,
  'turn photographs upright by the orientation in their EXIF data',
)
