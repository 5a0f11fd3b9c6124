"""The keys of the optimizer and of its learning rate."""

from convmixer_jax.config.keys import (
  BELOW_ONE,
  NOT_NEGATIVE,
  Range,
  key,
  one_of,
)

_FRACTION = Range('above 0 and at most 1', lambda value: 0 < value <= 1)
_POSITIVE = Range('above 0', lambda value: value > 0)

OPTIMIZER_KEYS = (
  key(
    'optimizer',
    'adamw',
    'rule of the updates; see docs/training_options.md',
    one_of('adamw', 'sgd', 'lamb', 'lion'),
  ),
  key('learning_rate', 0.01, 'peak of the learning rate', NOT_NEGATIVE),
  key(
    'backbone_lr_scale',
    1.0,
    'factor of the learning rate of all but the head; 0: frozen',
    NOT_NEGATIVE,
  ),
  key(
    'schedule',
    'triangular',
    'schedule of the learning rate',
    one_of('triangular', 'cosine', 'step', 'constant'),
  ),
  key(
    'warmup_epochs',
    0.0,
    'epochs of a linear warm-up; not for triangular',
    NOT_NEGATIVE,
  ),
  key(
    'warmup_learning_rate',
    0.0,
    'learning rate that the warm-up starts from',
    NOT_NEGATIVE,
  ),
  key(
    'warmup_prefix',
    True,
    'whether cosine and step begin after the warm-up; False: at the first '
    'step, and the warm-up takes the place of their beginning',
  ),
  key(
    'learning_rate_end',
    0.0,
    'learning rate that cosine ends at',
    NOT_NEGATIVE,
  ),
  key(
    'step_epochs',
    30.0,
    'epochs after each of which step lowers the learning rate',
    _POSITIVE,
  ),
  key(
    'step_factor',
    0.1,
    'factor by which step lowers the learning rate',
    _FRACTION,
  ),
  key(
    'schedule_per_epoch',
    False,
    'keep the learning rate within an epoch at that of its first step; not for '
    'triangular',
  ),
  key(
    'layer_lr_decay',
    1.0,
    'factor of the learning rate per layer, counted from the head; 1: off',
    _FRACTION,
  ),
  key(
    'weight_decay',
    2e-5,
    'weight decay, times the learning rate; of sgd, added to the gradient',
    NOT_NEGATIVE,
  ),
  key(
    'decay_all', False, 'apply weight decay also to biases, norms, embeddings'
  ),
  key(
    'adam_beta1', 0.9, 'decay of the mean of gradients, adamw, lamb', BELOW_ONE
  ),
  key(
    'adam_beta2',
    0.999,
    'decay of the mean of squared gradients, adamw, lamb',
    BELOW_ONE,
  ),
  key(
    'adam_epsilon',
    1e-3,
    'added to the denominator, adamw, lamb',
    NOT_NEGATIVE,
  ),
  key('momentum', 0.9, 'momentum of sgd; 0: none', BELOW_ONE),
  key('nesterov', False, "whether sgd uses Nesterov's momentum"),
  key('lion_beta1', 0.9, 'weight of the mean in the update, lion', BELOW_ONE),
  key('lion_beta2', 0.99, 'decay of the mean of gradients, lion', BELOW_ONE),
  key(
    'clip_norm',
    1.0,
    'largest global norm of the gradient, which is scaled down to it; 0: off',
    NOT_NEGATIVE,
  ),
)

# Which schedules read a key; all of them the others.
SCHEDULES_READING = {
  'warmup_epochs': ('cosine', 'step', 'constant'),
  'warmup_learning_rate': ('cosine', 'step', 'constant'),
  'warmup_prefix': ('cosine', 'step'),
  'learning_rate_end': ('cosine',),
  'step_epochs': ('step',),
  'step_factor': ('step',),
  'schedule_per_epoch': ('cosine', 'step', 'constant'),
}

# Which optimizers read a key; all of them the others.
READ_BY = {
  'adam_beta1': ('adamw', 'lamb'),
  'adam_beta2': ('adamw', 'lamb'),
  'adam_epsilon': ('adamw', 'lamb'),
  'momentum': ('sgd',),
  'nesterov': ('sgd',),
  'lion_beta1': ('lion',),
  'lion_beta2': ('lion',),
}
