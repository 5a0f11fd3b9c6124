"""The versions of what a run depends on."""

import importlib.metadata
import pathlib
import platform
import tomllib

_NAME = 'convmixer-jax'
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


def package_version() -> str:
  """Returns the version of this package; that of its files in a checkout."""
  root = pathlib.Path(__file__).parents[1]
  if (root / 'pyproject.toml').exists():
    with (root / 'pyproject.toml').open('rb') as file:
      project = tomllib.load(file).get('project', {})
    if project.get('name') == _NAME:
      return project['version']
  return importlib.metadata.version(_NAME)
