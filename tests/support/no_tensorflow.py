"""An environment for processes in which `import tensorflow` raises."""

import os
import pathlib

# Python imports a module of this name when it starts.
_SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder

class WithoutTensorFlow(PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    if name == 'tensorflow':
      return None
    return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow
"""


def environment(directory: pathlib.Path) -> dict[str, str]:
  """Returns this process's variables, changed to refuse TensorFlow.

  Args:
    directory: an existing one, for the file that refuses.
  """
  (directory / 'sitecustomize.py').write_text(_SITECUSTOMIZE)
  paths = [str(directory), os.environ.get('PYTHONPATH', '')]
  return os.environ | {
    'GLIBC_TUNABLES': '',  # or commands re-execute themselves
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': os.pathsep.join(filter(None, paths)),
  }
