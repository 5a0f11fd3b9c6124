"""Downloads the wheels that another machine, without a network, lacks.

The required packages are found by the metadata of the packages installed here
(of this one, by requirements.txt in a checkout that is not installed), in the
versions that are installed here.
"""

import importlib.metadata
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from convmixer_jax.benchmarks.device.session import ROOT
from convmixer_jax.errors import UserError

# pip needs all of them: no platform implies another.
_PLATFORMS = (
  'manylinux_2_28_x86_64',
  'manylinux_2_27_x86_64',
  'manylinux_2_17_x86_64',
  'manylinux2014_x86_64',
  'manylinux1_x86_64',
)


def collect(
  directory: pathlib.Path, installed: str | None, python_version: str
) -> str:
  """Downloads the packages a machine lacks for the benchmark and the GPU tests.

  Args:
    directory: directory for the wheels, new or empty.
    installed: a file that lists the packages of that machine, one per line, as
      `numpy==2.3.1` or `numpy`; None: the packages of this machine.
    python_version: Python version of that machine (x86-64 Linux), as '3.12'.

  Returns:
    Text to print: the packages, their sizes, and how to install them there.

  Raises:
    UserError: the directory has files in it, the list cannot be read, or a
      package cannot be downloaded.
  """
  if not re.fullmatch(r'3\.\d+', python_version):
    raise UserError(
      f'--python_version={python_version} is not a version such as 3.12'
    )
  there = read_installed(installed)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    is_empty = not any(directory.iterdir())
  except OSError as error:
    raise UserError(
      f'--wheels={directory} is not a directory that can be written to '
      f'({error.strerror}); give another'
    ) from error
  if not is_empty:
    raise UserError(f'--wheels={directory} has files in it; give another')
  needed = find_needed(python_version)
  missing = {name: v for name, v in needed.items() if name not in there}
  lines = [
    f'{len(needed)} packages are needed, {len(missing)} of them are missing'
  ]
  for name, version in sorted(missing.items()):
    path = _download(directory, name, version, python_version)
    lines.append(f'{path.stat().st_size / 2**20:8.2f} MiB  {path.name}')
  total = sum(path.stat().st_size for path in directory.iterdir())
  lines += [f'{total / 2**20:8.2f} MiB  in total', *_conflicts(there)]
  lines += [
    'on that machine, in a directory with these wheels and the project:',
    '  python3 -m pip install --quiet --no-index --no-deps --no-compile \\',
    f'    --target=SITE {directory.name}/*.whl && export PYTHONPATH=SITE',
  ]
  return '\n'.join(lines)


def read_installed(path: str | None) -> dict[str, str]:
  """Returns versions by canonical name; '' where the list has no version.

  Raises:
    UserError: the file cannot be read, or has invalid lines.
  """
  if path is None:
    return {
      canonicalize_name(found.name): found.version
      for found in importlib.metadata.distributions()
    }
  try:
    lines = pathlib.Path(path).read_text().split('\n')
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--installed={path} cannot be read ({error}); give the output of pip '
      'list --format=freeze'
    ) from error
  versions: dict[str, str] = {}
  for line in filter(None, map(str.strip, lines)):
    # The version in `name @ file:///...` is unknown.
    match = re.fullmatch(r'([\w.-]+)(?:\s*==\s*(\S+)|\s*@.*)?', line)
    if match is None:
      raise UserError(
        f'--installed={path} has a line {line!r}; valid are name==version and '
        'name'
      )
    versions[canonicalize_name(match[1])] = match[2] or ''
  if not versions:
    raise UserError(f'--installed={path} lists no packages; list at least one')
  return versions


def find_needed(python_version: str) -> dict[str, str]:
  """Returns versions by name of all packages required, directly or indirectly.

  The roots are the requirements of this package and pytest. A version is that
  installed here, or '' if the package is not installed.
  """
  environment = {
    'python_version': python_version,
    'python_full_version': f'{python_version}.0',
    'sys_platform': 'linux',
    'platform_system': 'Linux',
    'platform_machine': 'x86_64',
  }
  needed: dict[str, str] = {}
  seen, unvisited = set(), list(_requirements())
  while unvisited:
    requirement = unvisited.pop()
    for extra in ('', *sorted(requirement.extras)):
      name = canonicalize_name(requirement.name)
      if (name, extra) in seen:
        continue
      seen.add((name, extra))
      try:
        found = importlib.metadata.distribution(name)
      except importlib.metadata.PackageNotFoundError:
        needed[name] = ''
        continue
      needed[name] = found.version
      unvisited += _applicable(found.requires or [], environment, extra)
  return needed


def _requirements() -> Iterator[Requirement]:
  try:
    lines = importlib.metadata.requires('convmixer-jax') or []
  except importlib.metadata.PackageNotFoundError:
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
  for line in lines:
    text = line.partition('#')[0].strip()
    if text and not text.startswith('-'):
      requirement = Requirement(text)
      marker = requirement.marker
      if marker is None or marker.evaluate({'extra': ''}):
        yield requirement
  yield Requirement('pytest')  # for the tests that are marked `gpu`


def _applicable(
  requires: list[str], environment: Mapping[str, str], extra: str
) -> list[Requirement]:
  found = []
  for text in requires:
    requirement = Requirement(text)
    marker = requirement.marker
    if marker is None:
      if not extra:
        found.append(requirement)
    elif marker.evaluate({**environment, 'extra': extra}):
      found.append(requirement)
  return found


def _conflicts(there: Mapping[str, str]) -> list[str]:
  """Lists packages that are installed there in an untested version."""
  lines = []
  for requirement in _requirements():
    version = there.get(canonicalize_name(requirement.name))
    if version and not requirement.specifier.contains(version, True):
      lines.append(f'not tested: {requirement.name} {version}, {requirement}')
  return lines


def _download(directory, name, version, python_version):
  """Downloads or builds the wheel of a package, and returns its path."""
  wanted = f'{name}=={version}' if version else name
  before = set(directory.iterdir())
  pip = [sys.executable, '-m', 'pip']
  options = ['--quiet', '--no-deps', '--disable-pip-version-check']
  attempts = [
    [
      *(*pip, 'download', *options, '--only-binary=:all:'),
      *('--python-version', python_version, '--implementation', 'cp'),
      *(f'--platform={platform}' for platform in _PLATFORMS),
      *('--dest', str(directory), wanted),
    ],
    # Builds a package without a wheel, if the result is for any machine.
    [*pip, 'wheel', *options, '--wheel-dir', str(directory), wanted],
  ]
  for command in attempts:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    new = sorted(set(directory.iterdir()) - before)
    if done.returncode == 0 and len(new) == 1:
      if command is attempts[0] or new[0].name.endswith('-none-any.whl'):
        return new[0]
      new[0].unlink()
  reason = (done.stderr.strip().splitlines() or ['without a message'])[-1]
  raise UserError(f'{wanted} has no wheel for that machine: {reason}')
