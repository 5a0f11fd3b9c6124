"""Has glibc keep memory, in huge pages: training on a CPU is twice as fast.

XLA:CPU allocates its buffers anew in every step. glibc takes large ones from
the kernel and gives them back; the kernel clears them and hands them out in
pages of 4 KiB, one fault each: half of the time of a step. glibc takes these
settings (`mallopt` has not all) only from a starting program's environment.
"""

import glob
import os
import platform
import sys

_VARIABLE = 'GLIBC_TUNABLES'
_HUGE_PAGES = 'glibc.malloc.hugetlb=1'
# One heap for all threads, that keeps what is freed: 16 GiB of it.
_KEEP = (
  'glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0'
  f':glibc.malloc.trim_threshold={2**34}'
)
_ACCELERATORS = ('/dev/nvidia[0-9]*', '/dev/kfd', '/dev/accel*', '/dev/vfio/*')


def tune_allocator() -> None:
  """Starts this program anew with the settings, if they have an effect here.

  Memory is kept only on machines without an accelerator: beside one, XLA:CPU
  has little to do. Nothing happens where `GLIBC_TUNABLES` is set, be it to
  nothing, or where the C library is not glibc.
  """
  if _VARIABLE in os.environ or platform.libc_ver()[0] != 'glibc':
    return
  settings = [_HUGE_PAGES]
  if not any(map(glob.glob, _ACCELERATORS)):
    settings.append(_KEEP)
  os.environ[_VARIABLE] = ':'.join(settings)
  os.execv(sys.executable, sys.orig_argv)
