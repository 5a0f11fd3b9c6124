"""The keys of a run: its length, devices and files."""

from convmixer_jax.config.keys import (
  AT_LEAST_ONE,
  BELOW_ONE,
  NOT_NEGATIVE,
  Range,
  free_key,
  key,
  one_of,
)

_AXIS = Range(
  'at least 1, or -1 for all devices that are left',
  lambda value: value >= 1 or value == -1,
)
_WORKERS = Range(
  'at least 0, or -1 for a number by core count', lambda value: value >= -1
)

_SCHEDULE = 'the learning rate'

RUN_KEYS = (
  key(
    'seed',
    0,
    'seed of initialisation, data order and augmentation',
    NOT_NEGATIVE,
    Range('below 2**32', lambda value: value < 2**32, limits_size=True),
  ),
  key(
    'dtype',
    'float32',
    'dtype of computation; parameters are always float32',
    one_of('float32', 'bfloat16'),
  ),
  key(
    'batch_size',
    128,
    'images per update, over all devices; 0: chosen by their number',
    AT_LEAST_ONE,
  ),
  key('accum_steps', 1, 'forward and backward passes per update', AT_LEAST_ONE),
  free_key(
    'num_epochs',
    20,
    'length of the run; an epoch is training images // batch_size updates (a '
    'few fewer with repeated_augmentation)',
    NOT_NEGATIVE,
    changes=_SCHEDULE,
  ),
  free_key(
    'num_steps',
    0,
    'length in updates, instead of num_epochs',
    NOT_NEGATIVE,
    changes=_SCHEDULE,
  ),
  key(
    'init_from',
    '',
    'weights to start from: a SOURCE, as in evaluate --source; none if empty',
  ),
  key(
    'new_head',
    False,
    'initialise the head at random, even if init_from has one of this size',
  ),
  key(
    'label_smoothing',
    0.0,
    'share of the target that is spread over all classes',
    BELOW_ONE,
  ),
  key(
    'loss',
    'cross_entropy',
    'loss in training; binary_cross_entropy takes each class by itself',
    one_of('cross_entropy', 'binary_cross_entropy'),
  ),
  key(
    'bce_threshold',
    0.0,
    'of binary_cross_entropy: targets above it become 1, others 0; 0: off',
    BELOW_ONE,
  ),
  key(
    'ema_decay',
    0.0,
    'decay of an exponential moving average (EMA) of the parameters; 0: none',
    BELOW_ONE,
  ),
  key(
    'ema_warmup_power',
    0.0,
    'warm-up of the EMA: decay up to 1 - (1 + updates)**-power; 0: none',
    NOT_NEGATIVE,
  ),
  key(
    'ema_evaluate',
    True,
    'evaluate the EMA, if there is one, and not the parameters themselves',
  ),
  free_key('mesh.data', -1, 'devices that split the batch', _AXIS),
  free_key(
    'mesh.fsdp', 1, 'devices that also split the parameters', AT_LEAST_ONE
  ),
  free_key(
    'input.num_threads',
    0,
    'threads that make batches; 0: one per core',
    NOT_NEGATIVE,
  ),
  free_key(
    'input.num_workers',
    -1,
    'processes that make batches, instead of threads',
    _WORKERS,
  ),
  free_key(
    'input.prefetch', 4, 'batches ready ahead of the step', AT_LEAST_ONE
  ),
  free_key(
    'input.on_device',
    False,
    'keep all images on each device, and crop, flip and augment them there',
  ),
  free_key(
    'log_every_steps',
    0,
    'updates between logged metrics; 0: a tenth of an epoch, 10 to 50',
    NOT_NEGATIVE,
  ),
  free_key('eval_every_epochs', 1, 'epochs between evaluations', AT_LEAST_ONE),
  free_key(
    'checkpoint_every_steps',
    1000,
    'updates between checkpoints; evaluations write one too',
    AT_LEAST_ONE,
  ),
  free_key(
    'keep_checkpoints',
    2,
    'how many of the newest checkpoints to keep, besides the best',
    AT_LEAST_ONE,
  ),
  free_key(
    'max_nonfinite',
    10,
    'steps in a row, skipped as not finite, that end the run',
    AT_LEAST_ONE,
  ),
  free_key(
    'hang_timeout',
    600,
    'seconds without a step that end a run of several processes',
    AT_LEAST_ONE,
  ),
  free_key('profile', False, 'write a trace of 5 steps for TensorBoard'),
)
