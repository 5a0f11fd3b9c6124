"""Class activation maps: which places of an image speak for a class.

CAM (Zhou et al., arXiv 1512.04150) is exact where the head is a dense layer of
the mean of the last grid, as in ConvMixer: the mean of the map, and the bias of
the class, are the logit. Grad-CAM (Selvaraju et al., arXiv 1610.02391) is
defined for each layer: the channels are weighted by the mean gradient of the
logit, and what is negative is set to 0.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from convmixer_jax.models import features as features_lib

CAM = 'cam'
GRAD_CAM = 'gradcam'
AUTO = 'auto'
METHODS = AUTO, CAM, GRAD_CAM

# Of the logits, relative to the largest: an identity that holds but for
# rounding, of bfloat16 too.
_TOLERANCE = 2e-2


class ClassMaps(NamedTuple):
  """Maps of one class for each image, as they are computed on the device.

  Attributes:
    logits: `[B, K]`, float32.
    classes: int32 `[B]`.
    cam: `[B, h, w]`, float32: CAM of the last layer; None without a head that
      reads the last grid's channels.
    cam_error: scalar, float32: by how much the identity of CAM is missed,
      relative to the largest logit; infinite without `cam`.
    grad_cam: by layer, `[B, h, w]`, float32.
    gradient: by layer, scalar, float32: the largest absolute derivative.
  """

  logits: jax.Array
  classes: jax.Array
  cam: jax.Array | None
  cam_error: jax.Array
  grad_cam: dict[str, jax.Array]
  gradient: dict[str, jax.Array]


def class_maps(
  model: nn.Module,
  variables: Mapping[str, Any],
  images: jax.Array,
  classes: jax.Array,
  layers: Sequence[str],
  head: str = 'head',
) -> ClassMaps:
  """Computes CAM of the last layer, and Grad-CAM of each; to be traced by JAX.

  Args:
    model: the network, evaluated with its running statistics.
    variables: its `params` and `batch_stats`.
    images: `[B, H, W, C]`, normalised.
    classes: int32 `[B]`, the class of each image; -1 for the predicted one.
    layers: names of those whose Grad-CAM is wanted; see `models.features`.
    head: name of the network's last dense layer.
  """
  rows = jnp.arange(images.shape[0])

  def apply(images, perturbations):
    added = {'perturbations': perturbations} if perturbations else {}
    logits, state = model.apply(
      {**variables, **added}, images, train=False, mutable=['intermediates']
    )
    return logits, state['intermediates']

  _, shapes = jax.eval_shape(apply, images, {})
  found = features_lib.find_layers(shapes)
  locations = {name: found[name] for name in layers}
  zeros = {}
  for location in locations.values():
    whole = dataclasses.replace(location, block=None).find(shapes)
    zeros[location.path] = jnp.zeros(whole.shape, whole.dtype)

  def logits_of(perturbations):
    logits, sown = apply(images, perturbations)
    chosen = jnp.where(classes < 0, logits.argmax(axis=-1), classes)
    return logits[rows, chosen].sum(), (logits, chosen, sown)

  gradients, (logits, chosen, sown) = jax.grad(
    lambda zeros: logits_of(traverse_util.unflatten_dict(zeros)), has_aux=True
  )(zeros)
  grad_cam, largest = {}, {}
  for name, location in locations.items():
    gradient = gradients[location.path]
    if location.block is not None:
      gradient = gradient[location.block]
    gradient = gradient.astype(jnp.float32)
    weights = gradient.mean(axis=(1, 2))
    grid = location.find(sown).astype(jnp.float32)
    grad_cam[name] = jax.nn.relu(_weigh(grid, weights))
    largest[name] = jnp.abs(gradient).max()
  last = features_lib.collect(sown, logits)
  cam, error = _cam(last, variables['params'].get(head, {}), chosen)
  return ClassMaps(logits, chosen, cam, error, grad_cam, largest)


def is_exact(maps: ClassMaps) -> bool:
  """Returns whether CAM explains the logits: its mean and the bias are them."""
  return maps.cam is not None and float(maps.cam_error) < _TOLERANCE


def _cam(found, head, classes):
  """Returns CAM of the last layer, or None, and how far it is from exact."""
  nothing = None, jnp.float32(jnp.inf)
  if not found.names or not {'kernel', 'bias'} <= head.keys():
    return nothing
  kernel, bias = head['kernel'], head['bias']
  grid = found.grid.astype(jnp.float32)
  if kernel.ndim != 2 or kernel.shape[0] != grid.shape[-1]:
    return nothing
  cam = _weigh(grid, kernel.T[classes])
  of_mean = grid.mean(axis=(1, 2)) @ kernel + bias
  scale = jnp.maximum(jnp.abs(found.logits).max(), 1e-6)
  return cam, jnp.abs(of_mean - found.logits).max() / scale


def _weigh(grid, weights):
  """Sums the channels of `[B, h, w, C]`, weighted by `[B, C]`."""
  return jnp.einsum(
    'bhwc,bc->bhw', grid, weights, precision=jax.lax.Precision.HIGHEST
  )
