"""Outside `models/` nothing depends on which networks there are."""

import ast
import pathlib

import convmixer_jax
from convmixer_jax.models import MODELS, Architecture

PACKAGE = pathlib.Path(convmixer_jax.__file__).parent

# Networks are made of kernels, which are named after the operations, and
# benchmarks of a network or of an operation name it.
FREE = ('models', 'benchmarks', 'kernels')
# Also sizes of images, depths of trees, words of other libraries, and of the
# interface of all networks.
OTHER_MEANING = {'width', 'depth', 'norm', *Architecture._fields}
# A kind of convolution: chips compute it with another unit than products.
OPERATION = {'depthwise'}
ALLOWED = {
  'cli/program.py': {'convmixer'},  # also the name of the command
  'analysis/flops.py': OPERATION,
  'planning/report.py': OPERATION,
}


def network_words():
  """Names of networks and variants, and fields that not all of them have."""
  architectures = MODELS.values()
  fields = [set(architecture.fields) for architecture in architectures]
  words = set(MODELS) | set.union(*fields) - set.intersection(*fields)
  for architecture in architectures:
    words |= {architecture.module.__name__, *architecture.variants}
  return words - OTHER_MEANING


def words_in(source):
  """Yields strings, by their last dotted part, attributes and imports."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield node.value.rpartition('.')[2]
    elif isinstance(node, ast.Attribute):
      yield node.attr
    elif isinstance(node, ast.keyword):
      yield node.arg
    elif isinstance(node, ast.ImportFrom):
      yield from (node.module or '').split('.')
    elif isinstance(node, ast.alias):
      yield from node.name.split('.')


def test_networks_and_their_own_fields_are_named_in_models_alone():
  words = network_words()
  assert {'convmixer', 'ViT', 'bn_group_size'} <= words
  assert 'scan' not in words  # all networks have it
  found = {}
  for path in PACKAGE.rglob('*.py'):
    name = path.relative_to(PACKAGE).as_posix()
    if not name.startswith(FREE):
      allowed = ALLOWED.get(name, set())
      found[name] = words.intersection(words_in(path.read_text())) - allowed
  assert {name: each for name, each in found.items() if each} == {}


def test_words_of_a_network_are_found():
  source = (
    'from convmixer_jax.models.vit import X\n'
    'def f(config, model):\n'
    "  config['model.heads'] = model.activation\n"
  )
  assert {'vit', 'heads', 'activation'} <= set(words_in(source))
