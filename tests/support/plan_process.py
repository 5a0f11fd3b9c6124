"""What `test_plan.py` runs in a process with eight devices of its own.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu \
    python tests/support/plan_process.py OUT.json
"""

import dataclasses
import json
import pathlib
import sys

import jax

from configs import default
from convmixer_jax.planning.compilation import compile_step

NUM_CLASSES = 10
LAYOUTS = {
  'unrolled': {},
  'scan': {'model.scan': True},
  'fsdp': {'mesh.fsdp': 2},
}


def config_of(layout):
  config = default.get_config()
  config.batch_size = 64
  # Wide enough for fsdp to split the pointwise kernels, [2, 128, 128].
  config.model.width, config.model.depth = 128, 2
  config.model.kernel_size = 3
  config.model.depthwise = 'shift'
  config.model.bn_group_size = 8
  config.update_from_flattened_dict(LAYOUTS[layout])
  return config


def main(out):
  steps = {
    layout: dataclasses.asdict(
      compile_step(
        config_of(layout),
        jax.devices(),
        num_classes=NUM_CLASSES,
        steps_per_epoch=10,
      )
    )
    for layout in LAYOUTS
  }
  pathlib.Path(out).write_text(json.dumps(steps))


if __name__ == '__main__':
  main(sys.argv[1])
