"""What happens to a batch on the device: mixing, normalising, erasing.

The order is the recipe's: mixup or CutMix on pixels from 0 to 255, then
normalisation, then random erasing. The host has cropped, flipped and applied
RandAugment already.
"""

import jax
import jax.numpy as jnp
import ml_collections
import optax

_ERASING_TRIES = 10  # draws of a box until one fits, as timm


def preprocess_train(
  batch: dict[str, jax.Array],
  rng: jax.Array,
  config: ml_collections.ConfigDict,
  num_classes: int,
) -> tuple[jax.Array, jax.Array]:
  """Turns a batch of pixels into what the loss is computed on.

  Args:
    batch: `image` `[B, H, W, 3]` in uint8, `label` `[B]` in int32.
    rng: key of this step.
    config: the whole config.
    num_classes: number of classes K.

  Returns:
    Normalised images `[B, H, W, 3]` and targets `[B, K]`, both float32.
  """
  mix_rng, erase_rng = jax.random.split(rng)
  images = batch['image'].astype(jnp.float32)
  targets = optax.smooth_labels(
    jax.nn.one_hot(batch['label'], num_classes), config.label_smoothing
  )
  if config.mixup.mixup_alpha or config.mixup.cutmix_alpha:
    images, targets = mix(images, targets, mix_rng, config.mixup)
  images = normalize(images, config.dataset)
  if config.erasing.probability:
    images = erase(images, erase_rng, config.erasing)
  return images, targets


def normalize(
  images: jax.Array, config: ml_collections.ConfigDict
) -> jax.Array:
  """Brings pixels from 0 to 255 to mean 0 and variance 1 per channel.

  Args:
    images: `[B, H, W, 3]`, any dtype.
    config: `config.dataset`, for its `mean` and `std` of pixels in [0, 1].

  Returns:
    `[B, H, W, 3]`, float32.
  """
  mean = 255 * jnp.array(config.mean, jnp.float32)
  std = 255 * jnp.array(config.std, jnp.float32)
  return (images.astype(jnp.float32) - mean) / std


def mix(
  images: jax.Array,
  targets: jax.Array,
  rng: jax.Array,
  config: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
  """Mixes each image with another of its group, by mixup or by CutMix.

  Mixup is arXiv 1710.09412, CutMix arXiv 1905.04899; the batch-wise form, the
  pairing of a group with its own reverse and the rounding of pixels are those
  of timm's `FastCollateMixup`, which the authors trained with: one choice and
  one lambda for all images of a group.

  Args:
    images: `[B, H, W, 3]`, float32, whole numbers from 0 to 255.
    targets: `[B, K]`, float32.
    rng: key of this step and purpose.
    config: `config.mixup`; its `group_size` divides B.

  Returns:
    Images and targets of the same shapes.
  """
  shape = images.shape
  group_size = config.group_size or shape[0]
  images = images.reshape(-1, group_size, *shape[1:])
  targets = targets.reshape(-1, group_size, targets.shape[-1])
  num_groups = images.shape[0]

  choice_rng, mixup_rng, cutmix_rng, box_rng = jax.random.split(rng, 4)
  if config.mixup_alpha and config.cutmix_alpha:
    probability = config.switch_probability
  else:
    probability = 1.0 if config.cutmix_alpha else 0.0
  use_cutmix = jax.random.bernoulli(choice_rng, probability, (num_groups,))

  mixup_share = _beta(mixup_rng, config.mixup_alpha, num_groups)
  cutmix_share = _beta(cutmix_rng, config.cutmix_alpha, num_groups)
  box, cutmix_share = _cutmix_box(box_rng, cutmix_share, shape[1:3])

  others = images[:, ::-1]
  share = _per_group(mixup_share, images.ndim)
  blended = jnp.round(images * share + others * (1 - share))
  pasted = jnp.where(box[:, None, :, :, None], others, images)
  images = jnp.where(_per_group(use_cutmix, images.ndim), pasted, blended)

  share = jnp.where(use_cutmix, cutmix_share, mixup_share)[:, None, None]
  targets = targets * share + targets[:, ::-1] * (1 - share)
  return images.reshape(shape), targets.reshape(-1, targets.shape[-1])


def _beta(rng, alpha, num_groups):
  if not alpha:
    return jnp.ones((num_groups,))
  return jax.random.beta(rng, alpha, alpha, (num_groups,))


def _per_group(values, ndim):
  return values.reshape(-1, *[1] * (ndim - 1))


def _cutmix_box(rng, share, size):
  """Draws a box of area `1 - share`; its centre is uniform over the image.

  Returns:
    `[G, H, W]`, whether a pixel is in the box, and the share `[G]` that is left
    outside it, counting only what of the box lies inside the image.
  """
  inside = []
  for rng_of_axis, length in zip(jax.random.split(rng), size, strict=True):
    side = jnp.floor(length * jnp.sqrt(1 - share)).astype(jnp.int32)
    centre = jax.random.randint(rng_of_axis, share.shape, 0, length)
    low = jnp.maximum(centre - side // 2, 0)[:, None]
    high = jnp.minimum(centre + side // 2, length)[:, None]
    place = jnp.arange(length)
    inside.append((low <= place) & (place < high))
  rows, columns = inside
  box = rows[:, :, None] & columns[:, None, :]
  return box, 1 - jnp.mean(box, (1, 2), dtype=jnp.float32)


def erase(
  images: jax.Array, rng: jax.Array, config: ml_collections.ConfigDict
) -> jax.Array:
  """Fills a box of some images with noise from N(0, 1), pixel by pixel.

  Random erasing (arXiv 1708.04896) in timm's form: up to ten draws of area and
  aspect until a box fits; the image stays as it is if none does.

  Args:
    images: `[B, H, W, 3]`, normalised.
    rng: key of this step and purpose.
    config: `config.erasing`.

  Returns:
    `[B, H, W, 3]`, the dtype of `images`.
  """
  batch, height, width = images.shape[:3]
  rngs = jax.random.split(rng, 6)
  draws = (batch, _ERASING_TRIES)
  area = jax.random.uniform(
    rngs[0], draws, minval=config.area[0], maxval=config.area[1]
  )
  area = area * (height * width)
  low, high = (jnp.log(aspect) for aspect in config.aspect)
  aspect = jnp.exp(jax.random.uniform(rngs[1], draws, minval=low, maxval=high))
  box_height = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
  box_width = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
  fits = (box_height < height) & (box_width < width)

  first = jnp.argmax(fits, axis=1)[:, None]
  box_height = jnp.take_along_axis(box_height, first, axis=1)[:, 0]
  box_width = jnp.take_along_axis(box_width, first, axis=1)[:, 0]
  top = jax.random.randint(rngs[2], (batch,), 0, height - box_height + 1)
  left = jax.random.randint(rngs[3], (batch,), 0, width - box_width + 1)
  erased = jax.random.bernoulli(rngs[4], config.probability, (batch,))
  erased &= jnp.any(fits, axis=1)

  rows, columns = jnp.arange(height), jnp.arange(width)
  top, left = top[:, None], left[:, None]
  in_rows = (top <= rows) & (rows < top + box_height[:, None])
  in_columns = (left <= columns) & (columns < left + box_width[:, None])
  box = in_rows[:, :, None] & in_columns[:, None, :] & erased[:, None, None]
  noise = jax.random.normal(rngs[5], images.shape, images.dtype)
  return jnp.where(box[..., None], noise, images)
