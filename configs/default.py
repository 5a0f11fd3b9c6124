"""Every knob, with its default: ConvMixer-64/4 on scikit-learn's digits.

The other configs state only how they differ. Any knob can be set on the command
line, as in `--config.model.width=128`.
"""

import ml_collections

from convmixer_jax import models


def get_config() -> ml_collections.ConfigDict:
  """Returns the config that all others start from."""
  config = ml_collections.ConfigDict()

  config.seed = 0  # of initialisation, data order and augmentation
  config.dtype = 'float32'  # of computation: 'float32' or 'bfloat16'
  config.batch_size = 128  # images per update, over all devices
  config.accum_steps = 1  # forward-backward passes per update
  config.num_epochs = 20  # an epoch is len(train) // batch_size steps
  config.num_steps = 0  # if not 0, this many steps whatever num_epochs says
  config.init_from = ''  # weights to start from: hf://, a file, another run
  config.new_head = False  # not theirs, even for the same number of classes

  # Its keys are the fields of the network: convmixer_jax/models/convmixer/
  # fields.py, vit.py, ... With another --config.model.name, that network's.
  config.model = models.model_config('convmixer')

  config.dataset = ml_collections.ConfigDict()
  config.dataset.name = 'digits'  # or a TFDS name, with /config and :version
  config.dataset.data_dir = ''  # of TFDS; '': its default
  config.dataset.train_split = 'train'  # TFDS syntax: 'train[:10%]'
  config.dataset.eval_split = 'test'
  config.dataset.image_size = 8  # what the network sees, in pixels
  config.dataset.mean = (0.5, 0.5, 0.5)  # per channel, of pixels in [0, 1]
  config.dataset.std = (0.25, 0.25, 0.25)
  config.dataset.cache_mib = 1024  # sets smaller than this stay in memory

  config.augment = ml_collections.ConfigDict()  # on the host, per image
  config.augment.crop = 'random_resized'  # or 'none'
  config.augment.crop_scale = (0.08, 1.0)  # share of the image's area
  config.augment.crop_ratio = (3 / 4, 4 / 3)  # width / height
  config.augment.interpolation = 'random'  # or 'bilinear' or 'bicubic'
  config.augment.flip = 0.5  # probability
  config.augment.rand_augment = ml_collections.ConfigDict()
  config.augment.rand_augment.num_ops = 0  # per image; 0: off
  config.augment.rand_augment.policy = 'timm'  # or 'torchvision'
  config.augment.rand_augment.magnitude = 9.0  # of 10; torchvision: of 30
  config.augment.rand_augment.magnitude_std = 0.5
  config.augment.rand_augment.probability = 0.5  # of each operation drawn
  config.augment.rand_augment.increasing = True  # timm's `inc1`
  config.augment.rand_augment.fill = (124, 116, 104)  # where nothing is left
  config.augment.eval_crop_fraction = 1.0  # of the resized image's side

  config.mixup = ml_collections.ConfigDict()  # on the device, per group
  config.mixup.mixup_alpha = 0.0  # of Beta(alpha, alpha); 0: off
  config.mixup.cutmix_alpha = 0.0
  config.mixup.switch_probability = 0.5  # of CutMix, where both are on
  config.mixup.group_size = 0  # images that share a draw; 0: all

  config.erasing = ml_collections.ConfigDict()  # on the device, per image
  config.erasing.probability = 0.0
  config.erasing.area = (0.02, 1 / 3)  # share of the image
  config.erasing.aspect = (0.3, 1 / 0.3)  # height / width

  config.label_smoothing = 0.0
  config.learning_rate = 0.01  # the peak
  config.backbone_lr_scale = 1.0  # times it, for all but the head; 0: frozen
  config.schedule = 'triangular'  # or 'cosine' or 'constant'
  config.warmup_epochs = 0.0  # linear, from 0; not for 'triangular'
  config.weight_decay = 2e-5
  config.decay_all = False  # also biases and BatchNorm
  config.adam_beta1 = 0.9
  config.adam_beta2 = 0.999
  config.adam_epsilon = 1e-3
  config.clip_norm = 1.0  # global norm of the gradient; 0: off

  config.mesh = ml_collections.ConfigDict()
  config.mesh.data = -1  # devices that split the batch; -1: all that are left
  config.mesh.fsdp = 1  # devices that also split parameters

  config.input = ml_collections.ConfigDict()
  config.input.num_threads = 0  # that make batches; 0: one per core
  config.input.num_workers = -1  # processes, not threads; -1: by core count
  config.input.prefetch = 4  # batches ready ahead of the step

  config.log_every_steps = 50
  config.eval_every_epochs = 1
  config.checkpoint_every_steps = 1000  # besides one at the end
  config.keep_checkpoints = 2  # the last ones; the best is kept besides
  config.max_nonfinite = 10  # steps skipped in a row that end the run
  config.hang_timeout = 600  # seconds without a step that end several processes
  config.profile = False  # a trace of 5 steps, for TensorBoard
  return config
