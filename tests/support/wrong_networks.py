"""Networks of one's own that a run must refuse, for bad_input.py."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from convmixer_jax.models import ConvMixer
from convmixer_jax.models.architecture import Architecture
from convmixer_jax.models.fields import Field
from convmixer_jax.models.layers import GatherFn

WIDTH = {'width': Field(4, 'channels', minimum=1)}


class Base(nn.Module):
  """A network that is right: what the others extend."""

  width: int = 4
  num_classes: int = 10
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    return self.classify(jnp.mean(images, axis=(1, 2)), train)

  def classify(self, x, train):
    return nn.Dense(self.num_classes, name='head')(x)


class Raises(Base):
  def classify(self, x, train):
    raise RuntimeError('no such\nluck')


class RaisesInTraining(Base):
  def classify(self, x, train):
    if train:
      raise KeyError('train')
    return super().classify(x, train)


class RaisesWhenCreated(Base):
  def __post_init__(self):
    raise RuntimeError('not today')


class WithoutNumClasses(nn.Module):
  width: int = 4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(10, name='head')(jnp.mean(images, axis=(1, 2)))


class WithoutTrain(Base):
  @nn.compact
  def __call__(self, images):
    return nn.Dense(self.num_classes, name='head')(images)


class WithoutCall(nn.Module):
  num_classes: int = 10
  dtype: jnp.dtype = jnp.float32


class NeedsDepth(Base):
  depth: int = dataclasses.field(kw_only=True)


class OtherOutputs(Base):
  def classify(self, x, train):
    return nn.Dense(7, name='head')(x)


class OtherLogits(Base):
  def classify(self, x, train):
    return super().classify(x, train)[:, :2]


class HalfLogits(Base):
  def classify(self, x, train):
    return super().classify(x, train).astype(jnp.bfloat16)


class TwoResults(Base):
  def classify(self, x, train):
    return super().classify(x, train), x


class Counts(Base):
  def classify(self, x, train):
    self.variable('cache', 'count', jnp.zeros, ())
    return super().classify(x, train)


class HalfParameters(Base):
  def classify(self, x, train):
    dense = nn.Dense(self.num_classes, param_dtype=jnp.bfloat16, name='head')
    return dense(x).astype(jnp.float32)


class WithGather(Base):
  gather: GatherFn | None = None


class OfOneBatch(Base):
  def classify(self, x, train):
    return super().classify(x, train) + self.param(
      'shift', nn.initializers.zeros, (x.shape[0], 1)
    )


RAISES = Architecture(Raises, WIDTH)
RAISES_IN_TRAINING = Architecture(RaisesInTraining, WIDTH)
RAISES_WHEN_CREATED = Architecture(RaisesWhenCreated, WIDTH)
WITHOUT_NUM_CLASSES = Architecture(WithoutNumClasses, WIDTH)
WITHOUT_TRAIN = Architecture(WithoutTrain, WIDTH)
WITHOUT_CALL = Architecture(WithoutCall, {})
NEEDS_DEPTH = Architecture(NeedsDepth, WIDTH)
SURPLUS_FIELD = Architecture(Base, WIDTH | {'depth': Field(4, 'blocks')})
RESERVED_FIELD = Architecture(Base, WIDTH | {'name': Field('a', 'a name')})
NO_MODULE = Architecture(nn.Module, WIDTH)
A_FUNCTION = Architecture(lambda **fields: Base(), WIDTH)
OF_THE_PACKAGE = Architecture(ConvMixer, WIDTH)
NO_MAPPING = Architecture(Base, ['width'])
NO_FIELDS = Architecture(Base, {'width': 4})
OTHER_OUTPUTS = Architecture(OtherOutputs, WIDTH)
OTHER_LOGITS = Architecture(OtherLogits, WIDTH)
HALF_LOGITS = Architecture(HalfLogits, WIDTH)
TWO_RESULTS = Architecture(TwoResults, WIDTH)
COUNTS = Architecture(Counts, WIDTH)
HALF_PARAMETERS = Architecture(HalfParameters, WIDTH)
NO_GATHER = Architecture(Base, WIDTH, stacked=('blocks',))
NO_STACK = Architecture(WithGather, WIDTH, stacked=('blocks',))
UNEVEN_STACK = Architecture(WithGather, WIDTH, stacked=('head',))
NO_HEAD = Architecture(Base, WIDTH, head='classifier')
GATHER_FIELD = Architecture(Base, {'gather': Field(0, 'a number')})
OTHER_ROLE = Architecture(Base, {'width': Field(4, 'channels', role='speed')})
GROUPS_NUMBER = Architecture(Base, {'width': Field(4, 'channels', groups=3)})
GROUPS_OF_TEXT = Architecture(Base, {'width': Field('a', 'one', groups='two')})
OF_ONE_BATCH = Architecture(OfOneBatch, WIDTH)
BAD_PICTURES = Architecture(
  Base, WIDTH, pictures=lambda params: {'head': params['head']['kernel']}
)
RAISING_PICTURES = Architecture(
  Base, WIDTH, pictures=lambda params: params['body']
)
