"""Counts the passes over an activation in a block of a training step on a GPU.

A pass is a read or a write of `[B, H / p, W / p, width]` in bfloat16. A network
is compiled with two depths and 64 images per GPU, for GPUs that need not be
present; the extra memory traffic is divided by the number of extra blocks.
`test_passes.py` runs this in a separate process, and it made
`results/h100_plan`:

  PYTHONPATH=. python scripts/count_passes.py h100:1x1 768_32 xla
"""

import json
import os
import sys

from convmixer_jax.planning.chips import ENVIRONMENT, parse_topology

DEPTHS = 2, 4
IMAGES = 64


def count_passes(topology: str, variant: str, depthwise: str | None) -> dict:
  """Compiles both depths for a topology such as 'h100:1x1'.

  Args:
    topology: name of the topology, as in `planning.topologies`.
    variant: variant of `configs/imagenet.py`, such as '768_32'.
    depthwise: implementation of the convolution; None for the default.

  Returns:
    Per block: `passes`, and `saved`, the number of activations saved for the
    backward pass. `collectives`: kind and dtype of each collective operation.
  """
  from configs import imagenet
  from convmixer_jax.planning import compilation, topologies

  chip, layout = parse_topology(topology)
  devices = topologies.describe_devices(topology, chip, layout)
  config = imagenet.get_config(variant)
  config.batch_size = IMAGES * len(devices)
  if depthwise is not None:
    config.model.depthwise = depthwise
  steps = []
  for depth in DEPTHS:
    config.model.depth = depth
    steps.append(
      compilation.compile_step(
        config, devices, num_classes=1000, steps_per_epoch=100
      )
    )
  side = config.dataset.image_size // config.model.patch_size
  activation = 2 * IMAGES * side**2 * config.model.width
  shallow, deep = steps
  blocks = DEPTHS[1] - DEPTHS[0]
  memory = [step.memory['activations, temporaries'] for step in steps]
  return {
    'passes': (
      (deep.memory_traffic - shallow.memory_traffic) / blocks / activation
    ),
    'saved': (memory[1] - memory[0]) / blocks / activation,
    'collectives': [(item.kind, item.dtype) for item in deep.collectives],
  }


if __name__ == '__main__':
  os.environ |= ENVIRONMENT
  print(json.dumps(count_passes(*sys.argv[1:3], (sys.argv[3:] or [None])[0])))
