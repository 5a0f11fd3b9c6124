"""Has glibc ask for huge pages, which makes training on a CPU 1.8 times faster.

XLA:CPU allocates its buffers anew in every step, and the kernel hands them out
in pages of 4 KiB, one fault each: half of the time of a step. glibc takes the
setting (`mallopt` has none) only from the environment of a starting program.
"""

import os
import platform
import sys

_VARIABLE = 'GLIBC_TUNABLES'


def use_huge_pages() -> None:
  """Starts this program anew with the setting, if it has an effect here.

  Nothing happens where `GLIBC_TUNABLES` is set, be it to nothing, or where the
  C library is not glibc.
  """
  if _VARIABLE in os.environ or platform.libc_ver()[0] != 'glibc':
    return
  os.environ[_VARIABLE] = 'glibc.malloc.hugetlb=1'
  os.execv(sys.executable, sys.orig_argv)
