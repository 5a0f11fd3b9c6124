"""Bad data sets, and what each must be refused with."""

import tiny_sets
from bad_input import TINY, Case, data, deep_png, train
from tiny_archives import jpeg

DATA = [
  data(
    'no images',
    "'tiny' has no images in split 'train'; choose another",
    records=[],
  ),
  data(
    'an empty slice',
    "'tiny' has no images in split 'train[:0]'; choose another",
    flags=['--config.dataset.train_split=train[:0]'],
  ),
  data(
    'a slice that ends before it begins',
    "'tiny' has no images in split 'train[5:3]'; choose another",
    flags=['--config.dataset.train_split=train[5:3]'],
  ),
  data(
    'no such split',
    "'tiny' has no split 'test'; its splits are train, and slices of them "
    "such as 'train[:10%]'",
    flags=['--config.dataset.train_split=test'],
  ),
  data(
    'fewer images than a batch',
    'config.batch_size = 16 is more than the 8 training images; choose a '
    'smaller batch',
    flags=['--config.batch_size=16'],
  ),
  Case(
    'no such set',
    train(*TINY),
    "'tiny' is neither digits nor a TFDS data set; "
    'https://www.tensorflow.org/datasets/catalog lists them',
  ),
  data(
    'no labels',
    "config.dataset.name = 'tiny' has the features image, but image and "
    'label are required; choose a data set of images with labels, or name '
    'its features: --config.dataset.image_feature=NAME '
    '--config.dataset.label_feature=NAME',
    label=None,
  ),
  data(
    'labels that are numbers',
    "config.dataset.name = 'tiny': its feature label is an array of int64 "
    "and shape (), not the class of the image; store it as TFDS's ClassLabel, "
    'or choose another data set',
    label=tiny_sets.tensor_feature('int64'),
  ),
  data(
    'labels that are one-hot',
    "config.dataset.name = 'tiny': its feature label is an array of float32 "
    "and shape (3,), not the class of the image; store it as TFDS's "
    'ClassLabel, or choose another data set',
    label=tiny_sets.tensor_feature('float32', 3),
  ),
  data(
    'labels that are text',
    "config.dataset.name = 'tiny': its feature label is Text, not the class of "
    "the image; store it as TFDS's ClassLabel, or choose another data set",
    label=tiny_sets.text_feature(),
  ),
  data(
    'several labels for an image',
    "config.dataset.name = 'tiny': its feature label has several labels for an "
    "image, and one is required; store one as TFDS's ClassLabel, train with "
    'config.dataset.multi_label = True, or choose another data set',
    label=tiny_sets.sequence_feature(tiny_sets.LABEL),
  ),
  data(
    'one class only',
    "'tiny' has one class only, '0'; choose a data set with two or more",
    [(tiny_sets.encode(tiny_sets.noise(i)), 0) for i in range(8)],
    label=tiny_sets.label_feature(1),
  ),
  data(
    'fewer names than classes',
    "config.dataset.name = 'tiny' has 3 classes and the names of 2; correct "
    'TMP/data/tiny/1.0.0/label.labels.txt',
    class_names=('ant', 'bee'),
  ),
  data(
    'two classes of one name',
    "config.dataset.name = 'tiny': 2 of its classes are called 'ant'; give "
    'each class a name of its own',
    class_names=('ant', 'bee', 'ant'),
  ),
  data(
    'no classes',
    "config.dataset.name = 'tiny': its feature label does not define classes; "
    'give its ClassLabel their names or number, or choose another data set',
    label=tiny_sets.label_feature(0),
  ),
  data(
    'labels that are missing in a split that is not cached',
    'the label of image 0 of tiny train is -1, not from 0 to 2; fix it, leave '
    'the image out, or choose another split',
    [(tiny_sets.encode(tiny_sets.noise(i)), -1) for i in range(8)],
    flags=['--config.dataset.cache_mib=0'],
  ),
  data(
    'images that are numbers',
    "config.dataset.name = 'tiny': its feature image has values of float64; "
    'uint8, uint16 and float32 are read; convert them, or choose another '
    'data set',
    image=tiny_sets.tensor_feature('float64', 8, 8, 3),
  ),
  data(
    'images that are one number',
    "config.dataset.name = 'tiny': its feature image has arrays of shape "
    '(8,), not (height, width, channels); name another: '
    '--config.dataset.image_feature=NAME',
    image=tiny_sets.tensor_feature('float32', 8),
  ),
  data(
    '4 channels',
    "config.dataset.name = 'tiny' has images of 4 channels in image, and "
    'config.dataset.mean has 3 values; give mean and std of 4 values, or '
    'name other features: --config.dataset.image_feature=NAME',
    image=tiny_sets.image_feature(channels=4),
  ),
  data(
    'one 16-bit image',
    'image 5 of tiny train has values of uint16, and uint8 are wanted, which '
    'cannot hold them; convert it, or all other images to the same',
    tiny_sets.examples(changed={5: (deep_png(), 1)}),
  ),
  data(
    'an image of one pixel',
    'image 5 of tiny train is 1 x 1 pixels, which is too small; replace '
    'it or leave it out of the data set',
    tiny_sets.examples(
      changed={5: (tiny_sets.encode(tiny_sets.noise(shape=(1, 1, 3))), 1)}
    ),
  ),
  data(
    'a truncated JPEG',
    'cannot decode image 5 of tiny train: Truncated File Read (...); '
    'replace the file or leave it out of the data set',
    tiny_sets.examples(changed={5: (jpeg()[:-30], 1)}),
  ),
  data(
    'an empty image',
    'cannot decode image 5 of tiny train: not an image that Pillow knows '
    '(0 bytes); replace the file or leave it out of the data set',
    tiny_sets.examples(changed={5: (b'', 1)}),
  ),
  data(
    'a label above the classes',
    'the label of image 7 of tiny train is 3, not from 0 to 2; fix it, '
    'leave the image out, or choose another split',
    tiny_sets.examples(changed={7: (tiny_sets.encode(tiny_sets.noise()), 3)}),
  ),
  data(
    'a label that is missing',
    'the label of image 7 of tiny train is -1, not from 0 to 2; fix it, '
    'leave the image out, or choose another split',
    tiny_sets.examples(changed={7: (tiny_sets.encode(tiny_sets.noise()), -1)}),
  ),
  data(
    'a file of records that is cut short',
    'cannot read record 0 of tiny train (...); prepare the data set again',
    cut=tiny_sets.RECORDS,
  ),
  data(
    'a description that is cut short',
    "'tiny' cannot be opened (...); fix it, or prepare it again",
    cut='dataset_info.json',
  ),
  data(
    'features that are cut short',
    "'tiny' cannot be opened (...); fix it, or prepare it again",
    cut='features.json',
  ),
]
