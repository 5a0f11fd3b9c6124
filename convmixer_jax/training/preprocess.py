"""Preprocessing of a batch on the device: mixup, CutMix, normalising, erasing.

The order is the recipe's: mixup or CutMix on pixels from 0 to 255 (on the
values of float32 images), then normalisation, then random erasing. The host has
cropped, flipped and applied RandAugment already.
"""

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax import lax

from convmixer_jax.config import uses_mixup
from convmixer_jax.models.inference import pixel_statistics, to_pixels
from convmixer_jax.training.noise import normal_noise

_ERASING_TRIES = 10  # draws of a box until one fits, as timm


def preprocess_train(
  batch: dict[str, jax.Array],
  rng: jax.Array,
  config: ml_collections.ConfigDict,
  num_classes: int,
) -> tuple[jax.Array, jax.Array]:
  """Turns a batch of pixels into normalised images and soft targets.

  Args:
    batch: `image` `[B, H, W, C]` in uint8 or float32; `label` in int32, `[B]`,
      or `[B, K]` of 0 and 1.
    rng: key of this step.
    config: the whole config.
    num_classes: number of classes K.

  Returns:
    Normalised images `[B, H, W, C]` and targets `[B, K]`, both float32.
  """
  mix_rng, erase_rng = jax.random.split(rng)
  images = to_pixels(batch['image'])
  label = batch['label']
  is_multi_hot = label.ndim == 2
  targets = optax.smooth_labels(
    label.astype(jnp.float32)
    if is_multi_hot
    else jax.nn.one_hot(label, num_classes),
    config.label_smoothing,
  )
  if uses_mixup(config):
    whole = batch['image'].dtype == jnp.uint8
    images, targets = mixup_cutmix(
      images, targets, mix_rng, config.mixup, whole=whole
    )
  images = _normalize_pixels(images, config.dataset)
  if config.erasing.probability:
    images = erase(images, erase_rng, config.erasing)
  return images, targets


def normalize(
  images: jax.Array, config: ml_collections.ConfigDict
) -> jax.Array:
  """Brings images to mean 0 and variance 1 per channel.

  Args:
    images: `[B, H, W, C]`, of uint8, uint16 or float32.
    config: `config.dataset`, for its `mean` and `std`; see `models.inference`.

  Returns:
    `[B, H, W, C]`, float32.
  """
  return _normalize_pixels(to_pixels(images), config)


def _normalize_pixels(pixels, config):
  mean, std = pixel_statistics(config)
  return (pixels - mean) / std


def mixup_cutmix(
  images: jax.Array,
  targets: jax.Array,
  rng: jax.Array,
  config: ml_collections.ConfigDict,
  *,
  whole: bool = True,
) -> tuple[jax.Array, jax.Array]:
  """Mixes each image with another of its group, by mixup or by CutMix.

  Mixup is arXiv 1710.09412, CutMix arXiv 1905.04899; the batch-wise form, the
  pairing of a group with its own reverse and the rounding of pixels are those
  of timm's `FastCollateMixup`, which the authors trained with: one choice and
  one lambda for all images of a group. Groups that do not straddle devices
  need no communication.

  Args:
    images: `[B, H, W, C]`, float32.
    targets: `[B, K]`, float32.
    rng: key of this step and purpose.
    config: `config.mixup`; its `group_size` divides B.
    whole: whether the values are whole numbers, and so are the mixed ones.

  Returns:
    Images and targets of the same shapes.
  """
  size = images.shape[1:3]
  num_groups = images.shape[0] // (config.group_size or images.shape[0])
  choice_rng, mixup_rng, cutmix_rng, row_rng, column_rng = jax.random.split(
    rng, 5
  )
  if config.mixup_alpha and config.cutmix_alpha:
    probability = config.switch_probability
  else:
    probability = 1.0 if config.cutmix_alpha else 0.0
  use_cutmix = jax.random.bernoulli(choice_rng, probability, (num_groups,))
  share = jnp.where(
    use_cutmix,
    _symmetric_beta(cutmix_rng, config.cutmix_alpha, num_groups),
    _symmetric_beta(mixup_rng, config.mixup_alpha, num_groups),
  )
  centre = jnp.stack(
    [
      jax.random.randint(axis_rng, (num_groups,), 0, length)
      for axis_rng, length in zip((row_rng, column_rng), size, strict=True)
    ],
    axis=1,
  )
  return apply_mixup_cutmix(
    images, targets, use_cutmix, share, centre, whole=whole
  )


def apply_mixup_cutmix(
  images: jax.Array,
  targets: jax.Array,
  use_cutmix: jax.Array,
  share: jax.Array,
  centre: jax.Array,
  *,
  whole: bool = True,
) -> tuple[jax.Array, jax.Array]:
  """Mixes as `mixup_cutmix` does, with all random draws given.

  Args:
    images: `[B, H, W, C]`, float32.
    targets: `[B, K]`, float32.
    use_cutmix: `[G]`, bool, for each of the groups that divide the batch.
    share: `[G]`, float32, the share of the image itself ("lambda"). CutMix's
      targets use the actual share: the box is clipped to the image.
    centre: `[G, 2]`, int32, row and column of CutMix's box.
    whole: see `mixup_cutmix`.

  Returns:
    Images and targets of the same shapes.
  """
  shape, num_groups = images.shape, share.shape[0]
  images = images.reshape(num_groups, -1, *shape[1:])
  targets = targets.reshape(num_groups, -1, targets.shape[-1])

  def per_group(values, ndim):
    return values.reshape(-1, *[1] * (ndim - 1))

  box = _cutmix_box(share, centre, shape[1:3])
  others = images[:, ::-1]
  blend = per_group(share, 5)
  mixed = images * blend + others * (1 - blend)
  images = jnp.where(
    per_group(use_cutmix, 5),
    jnp.where(box[:, None, :, :, None], others, images),
    jnp.round(mixed) if whole else mixed,
  )
  outside = 1 - jnp.mean(box, (1, 2), dtype=jnp.float32)
  share = per_group(jnp.where(use_cutmix, outside, share), 3)
  targets = targets * share + targets[:, ::-1] * (1 - share)
  return images.reshape(shape), targets.reshape(-1, targets.shape[-1])


def _symmetric_beta(rng, alpha, num_groups):
  """Draws `[G]` from Beta(alpha, alpha), without `jax.random.beta`'s loop.

  Rejection sampling loops until all groups have a sample, which would need
  communication between devices. This is a closed form: Bailey's polar draw of
  Student's t with 2 alpha degrees of freedom (Math. Comp. 62, 1994), whose
  t / sqrt(2 alpha + t^2) is distributed as 2 Beta - 1.
  """
  if not alpha:
    return jnp.ones((num_groups,))
  radius, angle = jax.random.uniform(rng, (2, num_groups))
  cosine = jnp.cos(2 * jnp.pi * angle)
  square = jnp.expm1(-jnp.log(radius) / alpha) * cosine**2  # t^2 / (2 alpha)
  return 0.5 + 0.5 * jnp.sign(cosine) * lax.rsqrt(1 + 1 / square)


def _cutmix_box(share, centre, size):
  """Returns `[G, H, W]`, whether a pixel is in the box of area `1 - share`."""
  inside = []
  for axis, length in enumerate(size):
    side = jnp.floor(length * jnp.sqrt(1 - share)).astype(jnp.int32)
    low = (centre[:, axis] - side // 2)[:, None]
    high = low + side[:, None]
    position = jnp.arange(length)
    inside.append((low <= position) & (position < high))
  rows, columns = inside
  return rows[:, :, None] & columns[:, None, :]


def erase(
  images: jax.Array, rng: jax.Array, config: ml_collections.ConfigDict
) -> jax.Array:
  """Fills a box of some images with noise from N(0, 1), pixel by pixel.

  Random erasing (arXiv 1708.04896) in timm's form: up to ten draws of area and
  aspect until a box fits; if none does, the image is unchanged.

  Args:
    images: `[B, H, W, C]`, normalised.
    rng: key of this step and purpose.
    config: `config.erasing`.

  Returns:
    `[B, H, W, C]`, float32.
  """
  batch, height, width = images.shape[:3]
  size = height, width
  choice_rng, area_rng, aspect_rng, *position_rngs, noise_rng = (
    jax.random.split(rng, 6)
  )
  erased = jax.random.bernoulli(choice_rng, config.probability, (batch,))
  draws = (batch, _ERASING_TRIES)
  area = jax.random.uniform(area_rng, draws, jnp.float32, *config.area)
  low, high = (jnp.log(aspect) for aspect in config.aspect)
  aspect = jnp.exp(
    jax.random.uniform(aspect_rng, draws, jnp.float32, low, high)
  )

  inside = []
  for axis, sides in enumerate(first_fitting_box(area, aspect, size)):
    low = jax.random.randint(
      position_rngs[axis], (batch,), 0, size[axis] - sides + 1
    )
    position = jnp.arange(size[axis])
    inside.append(
      (low[:, None] <= position) & (position < (low + sides)[:, None])
    )
  rows, columns = inside
  box = rows[:, :, None] & columns[:, None, :] & erased[:, None, None]
  return jnp.where(
    box[..., None], normal_noise(noise_rng, images.shape), images
  )


def first_fitting_box(
  area: jax.Array, aspect: jax.Array, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """Returns the sides of the first box that is smaller than the image.

  Args:
    area: `[B, N]`, of N boxes, as a share of the image's.
    aspect: `[B, N]`, height / width.
    size: height and width of the image, in pixels.

  Returns:
    Height and width in pixels, `[B]` in int32; 0 where no box fits.
  """
  height, width = size
  area = area * (height * width)
  heights = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
  widths = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
  fits = (heights < height) & (widths < width)
  first = fits & (jnp.cumsum(fits, axis=1) == 1)
  return jnp.sum(heights * first, axis=1), jnp.sum(widths * first, axis=1)
