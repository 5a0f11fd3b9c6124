"""The requirement files and the extras of the package are the same."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).parents[1]


def requirements(name):
  lines = (ROOT / name).read_text().splitlines()
  lines = [line.partition('#')[0].strip() for line in lines]
  return [line for line in lines if line and not line.startswith('-')]


def test_extras_are_the_packages_of_the_requirement_files():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extras = project['optional-dependencies']
  prepare = [
    text.replace('"', "'") for text in requirements('requirements-prepare.txt')
  ]
  assert extras['prepare'] == prepare
  dev = requirements('requirements-dev.txt')
  assert extras['onnx'][0] in dev
  assert extras['gcs'][0] in dev
  assert extras['huggingface'][0] in dev
  assert extras['pandas'][0] in dev
  assert extras['slurm'][0] in dev
  assert extras['tiff'][1] in dev
