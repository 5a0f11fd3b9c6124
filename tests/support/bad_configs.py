"""Bad flags and configs, and what each must be refused with."""

from bad_input import Case, flag, in_file, on_digits, train

CONFIGS = [
  Case(
    'no config',
    train(),
    '--config is missing, and --workdir=TMP/run holds no run that has one; '
    'give a config file, such as configs/digits.py',
  ),
  Case(
    'no such config',
    train('--config=configs/nope.py'),
    '--config=configs/nope.py is not a file; give the path of one, or the name '
    'of one that comes with the package: cifar10, default, digits, finetune, '
    'folder, imagenet, patches',
  ),
  Case(
    'a file that is not a config',
    train('--config=convmixer_jax/errors.py'),
    '--config=convmixer_jax/errors.py defines no get_config(); define it '
    'to return a ConfigDict, such as convmixer_jax.config.default_config()',
  ),
  Case(
    'a variant of none',
    train('--config=configs/digits.py:x'),
    '--config=configs/digits.py:x: configs/digits.py has no variants; leave '
    'out :x',
  ),
  Case(
    'no such variant',
    train('--config=configs/imagenet.py:x'),
    "configs/imagenet.py has no variant 'x'; there are 1536_20, ...",
  ),
  Case(
    'a misspelt key',
    on_digits('--config.model.widht=9'),
    '--config.model.widht: there is no such key in configs/digits.py; did you '
    'mean --config.model.width?',
  ),
  Case(
    'a misspelt key that is negated',
    on_digits('--noconfig.model.scna'),
    '--noconfig.model.scna: there is no such key in configs/digits.py; did you '
    'mean --config.model.scan?',
  ),
  Case(
    'a misspelt flag',
    on_digits('--confg=1'),
    "Unknown command line flag 'confg'. Did you mean: config, ...",
  ),
  Case(
    'a flag without its dashes',
    on_digits('config.batch_size=8'),
    "'config.batch_size=8' is not a flag; flags begin with --",
  ),
  flag(
    'batch_size',
    '1.5',
    '--config.batch_size=1.5 is not a whole number, such as 128',
  ),
  flag(
    'batch_size',
    'None',
    '--config.batch_size=None is not a whole number, such as 128',
  ),
  flag('batch_size', '-8', 'config.batch_size = -8 is not at least 1'),
  flag(
    'batch_size',
    '100000',
    'config.batch_size = 100000 is more than the 1442 training images; '
    'choose a smaller batch',
  ),
  flag(
    'accum_steps',
    '3',
    'config.batch_size = 128 does not divide over 1 devices, 3 '
    'accumulation steps; the nearest that do: 126 and 129',
  ),
  flag(
    'learning_rate',
    'fast',
    '--config.learning_rate=fast is not a finite number, such as 0.01',
  ),
  flag(
    'learning_rate',
    'nan',
    'config.learning_rate = nan is not a finite number, such as 0.01',
  ),
  flag(
    'model.scan',
    'maybe',
    '--config.model.scan=maybe is not True or False, such as False',
  ),
  flag(
    'model.width',
    '0',
    'config.model.width = 0 is not at least 1',
  ),
  flag(
    'model.patch_size',
    '9',
    'config.model.patch_size = 9 is larger than the image (8 x 8); choose a '
    'smaller patch or a larger image',
  ),
  flag(
    'model.activation',
    'elu',
    "config.model.activation = 'elu' is not one of gelu, relu",
  ),
  flag(
    'model.depthwise',
    'fast',
    "config.model.depthwise = 'fast' is not one of cpu, cuda, shift, xla, None",
  ),
  flag(
    'model',
    '3',
    '--config.model: there is no such key in configs/digits.py; did you '
    'mean --config.model.scan?',
  ),
  flag(
    'dataset.name',
    '',
    "config.dataset.name = '' is not a name; see docs/configuration.md",
  ),
  flag(
    'dataset.std',
    '(0.5,0.5,0.0)',
    'config.dataset.std = (0.5, 0.5, 0.0) is not positive',
  ),
  flag(
    'dataset.std',
    '(0.5,0.5)',
    'config.dataset.mean has 3 values and config.dataset.std 2; give one of '
    'each for every channel (convmixer statistics prints them)',
  ),
  flag(
    'augment.crop_scale',
    '(0.5,0.1)',
    'config.augment.crop_scale = (0.5, 0.1) is not a pair with 0 < low '
    '<= high <= 1',
  ),
  flag(
    'augment.flip',
    '2',
    'config.augment.flip = 2.0 is not a probability, from 0 to 1',
  ),
  flag(
    'mesh.data',
    '3',
    'config.mesh: data = 3 x fsdp = 1 does not lay out the 1 devices '
    'here; data x fsdp must be 1',
  ),
  flag(
    'erasing.area',
    '(0.1,5.0)',
    'config.erasing.area = (0.1, 5.0) is not a share of the image, at most 1',
  ),
  flag(
    'schedule',
    'linear',
    "config.schedule = 'linear' is not one of triangular, cosine, step, "
    'constant',
  ),
  flag(
    'warmup_epochs',
    '1',
    "config.warmup_epochs = 1.0 is not read by config.schedule = 'triangular'; "
    "leave it at 0.0 or choose 'cosine' or 'step' or 'constant'",
  ),
  flag(
    'warmup_learning_rate',
    '0.1',
    'config.warmup_learning_rate = 0.1 is not read by config.schedule = '
    "'triangular'; leave it at 0.0 or choose 'cosine' or 'step' or 'constant'",
  ),
  Case(
    'the start of a warm-up that is not there',
    on_digits('--config.schedule=cosine', '--config.warmup_learning_rate=0.1'),
    'config.warmup_learning_rate = 0.1 needs config.warmup_epochs above 0; '
    'raise it, or leave out the rate',
  ),
  flag(
    'bce_threshold',
    '0.2',
    "config.bce_threshold = 0.2 needs config.loss = 'binary_cross_entropy'; "
    'set it, or leave config.bce_threshold at 0',
  ),
  flag(
    'ema_warmup_power',
    '0.7',
    'config.ema_warmup_power = 0.7 needs config.ema_decay above 0; set it, or '
    'leave config.ema_warmup_power at 0',
  ),
  flag(
    'ema_decay', '1.0', 'config.ema_decay = 1.0 is not at least 0 and below 1'
  ),
  flag(
    'repeated_augmentation',
    '0',
    'config.repeated_augmentation = 0 is not at least 1',
  ),
  Case(
    'a warm-up longer than the run',
    on_digits('--config.schedule=cosine', '--config.warmup_epochs=50'),
    'config.warmup_epochs = 50.0 takes 550 steps, and the run has 330; '
    'warm up for less, or train for longer',
  ),
  Case(
    'a head for no weights',
    on_digits('--config.new_head'),
    'config.new_head = True needs config.init_from; set it, or set '
    'config.new_head = False',
  ),
  Case(
    'no epochs and no steps',
    on_digits('--config.num_epochs=0'),
    'config.num_epochs = 0 and config.num_steps = 0; set one of them',
  ),
  in_file(
    'a string for a number',
    "config.batch_size = '8'",
    '--config=TMP/mine.py fails in line 6 (TypeError: ...); correct it; '
    '--debug shows more',
  ),
  in_file(
    'a string that is not checked by its type',
    "with config.ignore_type(): config.batch_size = '8'",
    "config.batch_size = '8' is not a whole number, such as 128",
  ),
  in_file(
    'a float for an int',
    'with config.ignore_type(): config.model.width = 8.0',
    'config.model.width = 8.0 is not a whole number, such as 64',
  ),
  in_file(
    'None for a number',
    'config.batch_size = None',
    'config.batch_size = None is not a whole number, such as 128',
  ),
  in_file(
    'True for a number',
    'config.batch_size = True',
    'config.batch_size = True is not a whole number, such as 128',
  ),
  in_file(
    'a colour by name',
    "config.augment.rand_augment.fill = ('red', 0, 0)",
    "config.augment.rand_augment.fill = ('red', 0, 0) is not 3 values, "
    'each a whole number, such as (124, 116, 104)',
  ),
  in_file(
    'strings for pixels',
    "config.dataset.mean = ('a', 'b', 'c')",
    "config.dataset.mean = ('a', 'b', 'c') is not a tuple of numbers, one for "
    'each channel',
  ),
  in_file(
    'a key that is none',
    'config.model.widht = 8',
    "config.model.widht is not a field of 'convmixer'; did you mean "
    'config.model.width?',
  ),
  in_file(
    'a key that is missing',
    'del config.model.width',
    "config.model.width of 'convmixer' is missing; its default is 64",
  ),
  in_file(
    'a key in place of a section',
    'config.model = 3',
    '--config=TMP/mine.py fails in line 6 (TypeError: ...); correct it; '
    '--debug shows more',
  ),
  in_file(
    'None for a config',
    'return None',
    'get_config() of --config=TMP/mine.py returns a NoneType; return a '
    'ConfigDict, such as convmixer_jax.config.default_config()',
  ),
  in_file(
    'a syntax error',
    'config.batch_size = = 8',
    '--config=TMP/mine.py fails in line 6 (SyntaxError: invalid syntax '
    '(mine.py, line 6)); correct it; --debug shows more',
  ),
  in_file(
    'a name that is not defined',
    'config.batch_size = size',
    "--config=TMP/mine.py fails in line 6 (NameError: name 'size' is not "
    'defined); correct it; --debug shows more',
  ),
  flag(
    'num_steps',
    '2147483648',
    'config.num_steps = 2147483648 is not below 2**31',
  ),
  flag('seed', '4294967296', 'config.seed = 4294967296 is not below 2**32'),
  flag(
    'model.width',
    '9999999999',
    'config.model.width = 9999999999 is not below 2**31',
  ),
  in_file(
    'a list for the name of a network',
    "with config.ignore_type(): config.model.name = ['vit']",
    "config.model.name = ['vit'] is unknown; there are convmixer, vit, "
    'distilled_vit, resmlp, mixer, resnet, isotropic, and MODULE:ATTRIBUTE '
    'for a network of your own',
  ),
  in_file(
    'a config file that ends the process',
    'raise SystemExit(3)',
    '--config=TMP/mine.py fails in line 6 (SystemExit: 3); correct it; '
    '--debug shows more',
  ),
]
