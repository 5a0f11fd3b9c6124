"""The CPU kernels in C++ programs, which compare them with plain loops.

They run under sanitizers, for the vectors of several kinds of CPU, and where
there is a compiler and an emulator for it, on another architecture.
"""

import pathlib
import platform
import shutil
import subprocess

import pytest

from convmixer_jax.kernels.cpu import build, library

ROOT = pathlib.Path(__file__).parents[2]
ARM = 'aarch64-linux-gnu-g++'
EMULATOR = shutil.which('qemu-aarch64') or shutil.which('qemu-aarch64-static')

DRIVERS = [
  ('depthwise', ['-DKERNEL_SIZE=4']),
  # Has more columns than fit into the registers at once.
  ('depthwise', ['-DKERNEL_SIZE=13']),
  *[
    (name, [])
    for name in (
      'norm_linear',
      'conv',
      'batch_norm',
      'max_pool',
      'attention',
      'layer_norm',
      'adamw',
      'transpose',
    )
  ],
]

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    library.unavailable('depthwise', 3) is not None,
    reason='the CPU kernels need a C++ compiler',
  ),
]


def compile_driver(compiler, driver, flags, program):
  return subprocess.run(
    [
      *compiler,
      *['-std=c++17', '-Wall', '-Wextra', '-Werror', '-pthread', *flags],
      f'-I{build._SOURCE_DIR}',
      str(ROOT / f'tests/kernels/{driver}_driver.cc'),
      *['-o', str(program)],
    ],
    capture_output=True,
    text=True,
    check=False,
  )


def targets():
  """Returns what to compile for: fewer and narrower registers each time."""
  if platform.machine().lower() not in ('x86_64', 'amd64'):
    return [None]
  of_cpu = pathlib.Path('/proc/cpuinfo')
  has_avx2 = of_cpu.exists() and ' avx2 ' in of_cpu.read_text()
  return ['native', *(['haswell'] if has_avx2 else []), 'x86-64']


@pytest.mark.parametrize('sanitizers', ['address,undefined', 'thread'])
@pytest.mark.parametrize('driver, flags', DRIVERS)
def test_kernels_are_clean_under_sanitizers(
  driver, flags, sanitizers, tmp_path
):
  for target in targets():
    program = tmp_path / f'{driver}_{target}'
    made = compile_driver(
      build._compiler(),
      driver,
      [
        *['-O0', '-g', f'-fsanitize={sanitizers}', *flags],
        '-fno-sanitize-recover=all',
        *([f'-march={target}'] if target else []),
      ],
      program,
    )
    if 'sanitize' in made.stderr or 'cannot find' in made.stderr:
      pytest.skip(f'the compiler has no -fsanitize={sanitizers}')
    assert made.returncode == 0, made.stderr
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(
  shutil.which(ARM) is None or EMULATOR is None,
  reason=f'{ARM} or qemu-aarch64 is not installed',
)
@pytest.mark.parametrize('driver, flags', DRIVERS)
def test_kernels_are_right_on_emulated_aarch64(driver, flags, tmp_path):
  program = tmp_path / driver
  # As build.py compiles; linked whole, since there are no libraries to load.
  made = compile_driver(
    [ARM],
    driver,
    ['-O3', '-ffp-contract=fast', '-fno-math-errno', '-static', *flags],
    program,
  )
  assert made.returncode == 0, made.stderr
  run = subprocess.run([EMULATOR, program], capture_output=True, text=True)
  assert run.returncode == 0, run.stdout + run.stderr
