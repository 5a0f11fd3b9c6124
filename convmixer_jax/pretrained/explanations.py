"""Explanations of a trained network: where in a picture it sees a class.

explanation = trained.explain('cat.jpg', 'tabby')
explanation.maps['last']   # [H / p, W / p]
explanation.heatmap()      # [height, width] of the picture
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from convmixer_jax.analysis import class_activation
from convmixer_jax.analysis.explanation import Explanation, find_box
from convmixer_jax.analysis.label_metrics import sigmoid
from convmixer_jax.config import ImageSize, nearest
from convmixer_jax.data.augment.transforms import eval_transform
from convmixer_jax.errors import UserError
from convmixer_jax.jax_settings import default_settings
from convmixer_jax.models import find_architecture, patch_size_of
from convmixer_jax.models.features import LAST, NOTHING, Layers, select_layers
from convmixer_jax.pretrained.images import ImageLike, decode, to_list

if TYPE_CHECKING:
  from convmixer_jax.pretrained.trained_model import TrainedModel


class Explaining:
  """The part of `TrainedModel` that explains its outputs."""

  def explain(
    self: 'TrainedModel',
    image: ImageLike,
    target: str | int | None = None,
    layers: Layers = None,
    method: str = class_activation.AUTO,
    *,
    image_size: ImageSize | None = None,
    exif_rotate: bool = True,
  ) -> Explanation:
    """Returns class activation maps of a picture.

    Args:
      image: the path of a file, an image of Pillow or an array `[H, W, C]`, of
        any size; prepared as in evaluation.
      target: class, by name or number; None for the predicted one.
      layers: None for the last one that the class depends on, 'all', or one or
        several by name or number; see `features`.
      method: 'cam', which is exact and only for the last layer of networks that
        classify the mean of its grid; 'gradcam' for any layer; 'auto' for CAM
        where it is exact, else Grad-CAM.
      image_size: see `features`.
      exif_rotate: see `logits`.

    Raises:
      UserError: there is no such class or layer, the picture cannot be read, or
        the class does not depend on a layer in the way that the method needs.
    """
    found = to_list(image, self.channels, self.image_dtype)
    if len(found) != 1:
      raise UserError(
        f'{len(found)} pictures are given; explain takes one at a time'
      )
    pixels = decode(
      found[0], exif_rotate, channels=self.channels, dtype=self.image_dtype
    )
    explanations = explain_classes(
      self, pixels, [target], layers, method, image_size
    )
    return next(explanations)


def explain_classes(
  trained: 'TrainedModel',
  pixels: np.ndarray,
  targets: Sequence[str | int | None],
  layers: Layers = None,
  method: str = class_activation.AUTO,
  image_size: ImageSize | None = None,
  where: str = 'the image',
) -> Iterator[Explanation]:
  """Yields the explanation of each class, as `TrainedModel.explain` does.

  Args:
    trained: the network.
    pixels: of the picture, as `images.decode` returns them.
    targets: classes by name or number; None is the predicted one.
    layers: see `TrainedModel.explain`.
    method: see `TrainedModel.explain`.
    image_size: see `TrainedModel.explain`.
    where: name of the picture, for errors.
  """
  numbers = [find_class(trained, target) for target in targets]
  names = choose_layers(trained, layers)
  if method not in class_activation.METHODS:
    raise UserError(
      f'method {method!r} is unknown; there are '
      f'{", ".join(class_activation.METHODS)}'
    )
  config = trained.eval_config(1, image_size)
  prepared = eval_transform(pixels, config.augment, config.dataset.image_size)
  for number in numbers:
    maps = _compute(trained, prepared, number, names)
    if not np.isfinite(maps.logits).all():
      raise UserError(
        f'the outputs of {trained.origin} are not finite for {where}; give '
        'other weights'
      )
    chosen = _choose_maps(maps, names, layers, method)
    yield _explanation(trained, pixels, maps, chosen, config)


def choose_layers(trained: 'TrainedModel', layers: Layers) -> list[str]:
  """Returns the names of the layers to compute maps of.

  All of them where the last one that counts has to be found.

  Args:
    trained: the network.
    layers: see `TrainedModel.explain`.

  Raises:
    UserError: there is no such layer, or the network has none.
  """
  names = trained.layer_names
  if not names:
    raise UserError(NOTHING)
  if layers is None or layers == 'all':
    return list(names)
  return select_layers(layers, names)


def find_class(trained: 'TrainedModel', target: str | int | None) -> int:
  """Returns the number of a class, -1 for None.

  Args:
    trained: the network.
    target: its name, as people or the data set have it, in upper or lower case;
      else its number.

  Raises:
    UserError: there is no such class, or several.
  """
  if target is None:
    return -1
  labels, count = trained.labels(), trained.num_classes
  if isinstance(target, str):
    for names in (labels, trained.class_names or ()):
      for same in (str.__eq__, lambda a, b: a.casefold() == b.casefold()):
        found = [k for k, name in enumerate(names) if same(name, target)]
        if len(found) > 1:
          raise UserError(
            f'the classes {", ".join(map(str, found))} are called {target!r}; '
            'give the number of one'
          )
        if found:
          return found[0]
  try:
    number = int(target)
  except ValueError:
    raise UserError(
      f'there is no class {target!r}; did you mean '
      f'{nearest(str(target), labels)!r}? Or give its number, 0 to {count - 1}'
    ) from None
  if not 0 <= number < count:
    raise UserError(
      f'there is no class {number}; the network has 0 to {count - 1}'
    )
  return number


def _compute(trained, prepared, number, names):
  """Returns the `ClassMaps` of one picture, as NumPy arrays."""
  with default_settings():
    maps = _class_maps(
      trained.backbone(),
      trained.replicated_variables,
      prepared[None],
      np.int32([number]),
      tuple(names),
      find_architecture(trained.network).head,
    )
  return jax.device_get(maps)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _class_maps(backbone, variables, images, classes, names, head):
  normalized = backbone.normalize(images)
  return class_activation.class_maps(
    backbone.model, variables, normalized, classes, names, head
  )


def _choose_maps(maps, names, layers, method):
  """Returns method and map `[h, w]` by layer.

  Raises:
    UserError: a layer has no map by this method.
  """
  exact = class_activation.is_exact(maps)
  depends = [name for name in names if maps.gradient[name] > 0]
  if method == class_activation.CAM and not exact:
    raise UserError(
      'CAM needs a network whose head is a dense layer of the mean of its last '
      'grid, which this one is not; choose the method gradcam'
    )
  if layers is None:
    last_only = exact and method != class_activation.GRAD_CAM
    names = [LAST] if last_only else depends[-1:] or names[-1:]
  elif layers == 'all':
    names = [name for name in depends or names[-1:] if not _is_last(maps, name)]
  chosen = {}
  for name in names:
    if name == LAST and exact and method != class_activation.GRAD_CAM:
      chosen[name] = class_activation.CAM, maps.cam[0]
    elif method == class_activation.CAM:
      raise UserError(
        f'CAM is of the layer {LAST!r}, not of {name!r}; choose that layer, or '
        'the method gradcam'
      )
    elif name not in depends:
      raise UserError(
        f'the class does not depend on the grid of the layer {name!r} (the '
        'head of a ViT reads the class token alone); choose an earlier layer. '
        'In a network of your own, use `expose`: see docs/features.md'
      )
    else:
      chosen[name] = class_activation.GRAD_CAM, maps.grad_cam[name][0]
  return chosen


def _is_last(maps, name):
  """Whether the layer is the last one under another name, as the last block."""
  same = np.array_equal(maps.grad_cam[name], maps.grad_cam[LAST])
  return name != LAST and same and maps.gradient[name] == maps.gradient[LAST]


def _explanation(trained, pixels, maps, chosen, config):
  (target,), (logits,) = maps.classes, maps.logits.astype(np.float64)
  if trained.multi_label:
    probability = sigmoid(logits[target])
  else:
    shares = np.exp(logits - logits.max())
    probability = shares[target] / shares.sum()
  by_layer = {name: array for name, (_, array) in chosen.items()}
  grid = next(iter(by_layer.values())).shape
  return Explanation(
    pixels,
    int(target),
    trained.labels()[target],
    float(logits[target]),
    float(probability),
    by_layer,
    {name: method for name, (method, _) in chosen.items()},
    find_box(
      pixels.shape[:2],
      grid,
      patch_size_of(trained.model),
      config.augment,
      config.dataset.image_size,
    ),
  )
