"""The keys of data, and of what is done to images on their way."""

from convmixer_jax.config.images import height_width, is_image_size
from convmixer_jax.config.keys import (
  AT_LEAST_ONE,
  NOT_NEGATIVE,
  PAIR,
  PROBABILITY,
  Range,
  free_key,
  is_like,
  key,
  one_of,
)

_NAME = Range('a name', bool, hint='; see docs/configuration.md')
_IMAGE_SIZE = Range(
  'at least 1 and below 2**31',
  lambda value: all(1 <= side < 2**31 for side in height_width(value)),
  limits_size=True,
  has_type=is_image_size,
  type_text='a whole number or a pair (height, width)',
)
_OF_CHANNELS = Range(
  '',
  lambda values: True,
  has_type=lambda values: (
    isinstance(values, (tuple, list))
    and len(values) > 0
    and all(is_like(value, 0.0) for value in values)
  ),
  type_text='a tuple of numbers, one for each channel',
)
_POSITIVE = Range('positive', lambda values: min(values) > 0)
_SHARES = Range(
  'a pair with 0 < low <= high <= 1',
  lambda x: 0 < x[0] <= x[1] <= 1,
)
_COLOUR = Range(
  'three values from 0 to 255',
  lambda x: len(x) == 3 and all(0 <= value <= 255 for value in x),
)

DATA_KEYS = (
  key(
    'dataset.name',
    'digits',
    'digits; folder, of your own images; hf:OWNER/NAME of the Hugging Face '
    'Hub; or a name of TFDS, with /config and :version',
    _NAME,
  ),
  free_key(
    'dataset.data_dir',
    '',
    "directory of TFDS, '' for TFDS's default; for folder, the one with your "
    'images; for hf:, the cache of downloads',
  ),
  key(
    'dataset.train_split',
    'train',
    "split to train on, in TFDS's syntax, such as train[:90%]",
    _NAME,
  ),
  key('dataset.eval_split', 'test', 'split to evaluate on', _NAME),
  key(
    'dataset.image_feature',
    'image',
    'feature or column of the images; names with commas: stacked as channels',
    _NAME,
  ),
  key(
    'dataset.label_feature',
    'label',
    'feature or column of the labels',
    _NAME,
  ),
  key(
    'dataset.multi_label',
    False,
    'any number of classes an image, by sigmoid and binary cross-entropy; the '
    'label is a sequence of classes, or a 0 or 1 for each class',
  ),
  key(
    'dataset.image_size',
    8,
    'side of the images that the network sees, or (height, width), in pixels; '
    '0: chosen by the training images',
    _IMAGE_SIZE,
  ),
  key(
    'dataset.mean',
    (0.5, 0.5, 0.5),
    'mean of each channel, of pixels in [0, 1]; as many as there are channels',
    _OF_CHANNELS,
  ),
  key(
    'dataset.std',
    (0.25, 0.25, 0.25),
    'standard deviation of each channel, of pixels in [0, 1]',
    _OF_CHANNELS,
    _POSITIVE,
  ),
  key(
    'dataset.exif_rotate',
    True,
    'turn images of folders and of the Hugging Face Hub upright as their EXIF '
    'data says; those of TFDS stay as they are stored',
  ),
  free_key(
    'dataset.cache_mib',
    1024,
    'a split that takes at most this much once decoded stays in memory, in MiB',
    NOT_NEGATIVE,
  ),
  key(
    'repeated_augmentation',
    1,
    'times that an epoch has each of its images, each time with its own '
    'augmentation; of the same length, it has fewer different images; 1: off',
    AT_LEAST_ONE,
  ),
  key(
    'augment.crop',
    'random_resized',
    'crop of each training image; none: the whole image, resized',
    one_of('random_resized', 'none'),
  ),
  key(
    'augment.crop_scale',
    (0.08, 1.0),
    "area of the crop, as a share of the image's",
    _SHARES,
  ),
  key(
    'augment.crop_ratio',
    (3 / 4, 4 / 3),
    'aspect ratio of the crop, width / height',
    PAIR,
  ),
  key(
    'augment.interpolation',
    'random',
    'interpolation of the resize; random: bilinear or bicubic',
    one_of('random', 'bilinear', 'bicubic'),
  ),
  key('augment.flip', 0.5, 'probability of a horizontal flip', PROBABILITY),
  key(
    'augment.rand_augment.num_ops',
    0,
    'operations of RandAugment per image; 0: off',
    NOT_NEGATIVE,
  ),
  key(
    'augment.rand_augment.policy',
    'timm',
    'the library whose operations and magnitudes RandAugment has',
    one_of('timm', 'torchvision'),
  ),
  key(
    'augment.rand_augment.magnitude',
    9.0,
    'magnitude of the operations, up to 10 (timm) or 30 (torchvision)',
    NOT_NEGATIVE,
  ),
  key(
    'augment.rand_augment.magnitude_std',
    0.5,
    'standard deviation of the magnitude',
    NOT_NEGATIVE,
  ),
  key(
    'augment.rand_augment.probability',
    0.5,
    'probability of applying each operation that was drawn',
    PROBABILITY,
  ),
  key(
    'augment.rand_augment.increasing',
    True,
    "whether all operations get stronger with the magnitude (timm's inc1)",
  ),
  key(
    'augment.rand_augment.fill',
    (124, 116, 104),
    'colour of pixels that an operation leaves empty: red, green, blue',
    _COLOUR,
  ),
  key(
    'augment.eval_crop_fraction',
    1.0,
    "side of the central crop in evaluation, as a share of the image's",
    Range('in (0, 1]', lambda value: 0 < value <= 1),
  ),
  key(
    'augment.eval_image_size',
    0,
    'side of the images in evaluation; 0: dataset.image_size',
    NOT_NEGATIVE,
  ),
  key(
    'augment.eval_interpolation',
    'bicubic',
    'interpolation of the resize in evaluation',
    one_of('bicubic', 'bilinear'),
  ),
  key(
    'mixup.mixup_alpha',
    0.0,
    'alpha of Beta(alpha, alpha), from which mixup draws; 0: off',
    NOT_NEGATIVE,
  ),
  key(
    'mixup.cutmix_alpha',
    0.0,
    'alpha of Beta(alpha, alpha), from which CutMix draws; 0: off',
    NOT_NEGATIVE,
  ),
  key(
    'mixup.switch_probability',
    0.5,
    'probability of CutMix, where mixup and CutMix are both on',
    PROBABILITY,
  ),
  key(
    'mixup.group_size',
    0,
    'images that share a draw of mixup or CutMix; 0: the whole batch',
    NOT_NEGATIVE,
  ),
  key(
    'erasing.probability',
    0.0,
    'probability of erasing a rectangle of a training image',
    PROBABILITY,
  ),
  key(
    'erasing.area',
    (0.02, 1 / 3),
    "area of the rectangle, as a share of the image's",
    PAIR,
    Range('a share of the image, at most 1', lambda value: value[1] <= 1),
  ),
  key(
    'erasing.aspect',
    (0.3, 1 / 0.3),
    'aspect ratio of the rectangle, height / width',
    PAIR,
  ),
)
