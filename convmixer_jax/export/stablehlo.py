"""A network as StableHLO, by `jax.export`: loading it needs JAX alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax import export, lax

from convmixer_jax.export.card import Format
from convmixer_jax.export.folded import fold_with_pixels
from convmixer_jax.models import ConvMixer
from convmixer_jax.models.folding import apply_folded

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
  model: ConvMixer,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  *,
  probabilities: bool = False,
) -> bytes:
  """Serialises a network with its weights, BatchNorm and normalisation folded.

  It is computed in float32. On a CPU, depthwise convolutions are shifted
  multiply-adds: the C++ kernels that are faster there are no part of JAX, so
  nobody without this package could run them, and XLA's own convolution is
  several times slower. The other platforms take XLA's.

  Args:
    model: the network.
    variables: its `params` and `batch_stats`.
    config: `config.dataset`, for `image_size`, `mean` and `std`.
    probabilities: whether the outputs are these, not logits.

  Returns:
    What `jax.export.deserialize` reads: a function of uint8 images
    `[B, S, S, 3]`, for any B, S being `image_size`, on `PLATFORMS`, that
    returns `[B, num_classes]` in float32.
  """
  # A loop compiles once what all blocks share.
  model = model.clone(dtype=jnp.float32, scan=True)
  folded = fold_with_pixels(variables, config)

  def by(depthwise):
    return partial(apply_folded, model.clone(depthwise=depthwise), folded)

  def classify(images):
    logits = lax.platform_dependent(images, cpu=by('shift'), default=by('xla'))
    return jax.nn.softmax(logits) if probabilities else logits

  (batch,) = export.symbolic_shape('batch')
  side = config.image_size
  images = jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8)
  exported = export.export(jax.jit(classify), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())
