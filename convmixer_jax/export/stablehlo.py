"""Exports a network as StableHLO (`jax.export`); loading it needs JAX only."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn
from jax import export, lax

from convmixer_jax.config import image_shape
from convmixer_jax.export.card import Format
from convmixer_jax.models import architecture_of
from convmixer_jax.models.inference import make_inference

PLATFORMS = ('cpu', 'tpu', 'cuda')

STABLEHLO = Format(
  file='model.stablehlo',
  needs='pip install jax flatbuffers',
  load="""\
import pathlib
from jax import export

exported = export.deserialize(
    bytearray(pathlib.Path('model.stablehlo').read_bytes())
)
outputs = exported.call(images)
""",
)


def to_stablehlo(
  model: nn.Module,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  *,
  probabilities: bool = False,
  dtype: str = 'uint8',
) -> bytes:
  """Serialises a network with its weights, BatchNorm and normalisation folded.

  It is computed in float32, with operations of JAX only, so it does not need
  this package to run (`Architecture.portable`).

  Args:
    model: the network.
    variables: its `params` and `batch_stats`.
    config: `config.dataset`, for `image_size`, `mean`, `std` and
      `multi_label`, by which probabilities are a sigmoid or a softmax.
    probabilities: whether the outputs are probabilities, not logits.
    dtype: of the images: uint8, uint16 or float32.

  Returns:
    Bytes for `jax.export.deserialize`: a function of images `[B, H, W, C]` of
    this size and dtype, with any B, on `PLATFORMS`, that returns
    `[B, num_classes]` in float32.
  """
  # In a loop, all blocks share one compiled body.
  architecture = architecture_of(model)
  fields: dict[str, Any] = {}
  if 'scan' in architecture.fields:
    fields['scan'] = True
  model = model.clone(dtype=jnp.float32, **fields)
  on_cpu, elsewhere = (
    jax.device_get(  # the weights become constants of the program
      make_inference(
        model.clone(**architecture.portable[platform]),
        jax.device_get(variables),
        config,
        dtype=dtype,
      )
    )
    for platform in ('cpu', 'default')
  )

  is_multi_label = config.get('multi_label')
  to_probabilities = jax.nn.sigmoid if is_multi_label else jax.nn.softmax

  def classify(images):
    logits = lax.platform_dependent(images, cpu=on_cpu, default=elsewhere)
    return to_probabilities(logits) if probabilities else logits

  (batch,) = export.symbolic_shape('batch')
  shape = batch, *image_shape(config)
  images = jax.ShapeDtypeStruct(shape, np.dtype(dtype))
  exported = export.export(jax.jit(classify), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())
