"""The networks of the paper and of the authors' repository, by name.

The name is width_depth, then what differs from patch 7 and kernel 9.
"""

from typing import Any


def _network(
  width: int,
  depth: int,
  patch_size: int = 7,
  kernel_size: int = 9,
  activation: str = 'gelu',
) -> dict[str, Any]:
  return {
    'width': width,
    'depth': depth,
    'patch_size': patch_size,
    'kernel_size': kernel_size,
    'activation': activation,
  }


VARIANTS: dict[str, dict[str, Any]] = {
  '1536_20': _network(1536, 20),
  '1536_20_p14': _network(1536, 20, patch_size=14),
  '1536_20_k3': _network(1536, 20, kernel_size=3),
  '768_32': _network(768, 32, kernel_size=7, activation='relu'),
  '768_32_p14_k3': _network(768, 32, patch_size=14, kernel_size=3),
  '1024_20': _network(1024, 20, patch_size=14),
  '1024_16': _network(1024, 16),
  '1024_12_k8': _network(1024, 12, kernel_size=8),
  '512_16_k8': _network(512, 16, kernel_size=8),
  '512_12_k8': _network(512, 12, kernel_size=8),
}
