"""The flag of the commands that write files.

Shared by several commands: absl allows a flag to be defined only once.
"""

from absl import flags

OUTPUT = flags.DEFINE_string('output', None, 'directory to write files to')
