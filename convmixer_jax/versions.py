"""The versions of what a run depends on."""

import importlib.metadata
import platform

_PACKAGES = (
  'clu',
  'flax',
  'grain',
  'jax',
  'jaxlib',
  'ml_collections',
  'numpy',
  'opencv-python-headless',
  'optax',
  'orbax-checkpoint',
  'pillow',
  'tensorboardX',
  'tensorflow-datasets',
)


def package_versions() -> dict[str, str]:
  """Returns the versions of Python and of what a run depends on."""
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version()} | versions
