"""The table of test_bad_input.py: commands, and what they must say."""

import pathlib
import pickle
import zipfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy
import tiny_sets
from etils import epath
from tiny_archives import jpeg

from configs import digits
from convmixer_jax.checkpoints import workdir
from convmixer_jax.checkpoints.checkpointer import Checkpointer, Progress
from convmixer_jax.checkpoints.train_state import TrainState
from convmixer_jax.cli import convert
from convmixer_jax.training.metrics import empty_window

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
# Of 3 classes: width 4, depth 2, patch 2, kernel 3; it tells no activation.
WEIGHTS = str(FIXTURES / 'checkpoint_zip.pth.tar')
SMALL = ('--config.model.width=8', '--config.model.depth=1')
TINY = (
  '--config=configs/digits.py',
  '--config.dataset.name=tiny',
  '--config.dataset.data_dir=TMP/data',
  '--config.dataset.eval_split=train',
  '--config.batch_size=4',
)


class Case(NamedTuple):
  """A command, and what it must say.

  Attributes:
    name: of the case.
    arguments: of the command; TMP in them stands for the test's directory.
    message: the whole line after `error: `; TMP as above, and `...` for what
      a library says.
    set_up: is given the test's directory, to put things there.
  """

  name: str
  arguments: Sequence[str]
  message: str
  set_up: Callable[[pathlib.Path], object] = lambda tmp: None


def train(*flags, workdir='TMP/run'):
  return 'train.py', f'--workdir={workdir}', *flags


def on_digits(*flags, workdir='TMP/run'):
  return train('--config=configs/digits.py', *SMALL, *flags, workdir=workdir)


def tool(name, *arguments):
  return 'convmixer_jax', name, *arguments


def flag(name, value, message):
  """A value of the config that is given on the command line."""
  given = f'{name} = {value}'
  return Case(given, on_digits(f'--config.{name}={value}'), message)


def network(name, problem):
  """A network of the user's, in a module beside this file."""
  return Case(
    name,
    train('--config=configs/digits.py', f'--config.model.name={name}'),
    f'config.model.name = {name!r}: {problem}',
  )


def in_file(name, lines, message):
  """A value of the config that is set in a file of the user's."""

  def set_up(tmp):
    (tmp / 'mine.py').write_text(
      'from configs import default\n\n\ndef get_config():\n'
      '  config = default.get_config()\n'
      f'  {lines}\n'
      '  return config\n'
    )

  return Case(name, train('--config=TMP/mine.py'), message, set_up)


def data(name, message, records=None, flags=(), cut=None, **features):
  """A data set `tiny` of the user's; of the file `cut`, only a part is left."""

  def set_up(tmp):
    directory = tiny_sets.write_set(tmp / 'data', records, **features)
    if cut is not None:
      path = directory / cut
      path.write_bytes(path.read_bytes()[:100])

  return Case(name, train(*TINY, *SMALL, *flags), message, set_up)


def weights(name, file, content, message, flags=()):
  """A file of weights to start from: its bytes, or tensors by name."""

  def set_up(tmp):
    if isinstance(content, bytes):
      (tmp / file).write_bytes(content)
    else:
      safetensors.numpy.save_file(content, tmp / file)

  init_from = f'--config.init_from=TMP/{file}'
  return Case(name, on_digits(init_from, *flags), message, set_up)


def deep_png():
  return tiny_sets.encode(np.full((8, 8), 1000, np.uint16))


class _Code:
  """Would leave a file where nothing may be written, were it unpickled."""

  def __init__(self, tmp):
    self._tmp = tmp

  def __reduce__(self):
    return exec, (f'open({str(self._tmp / "trace")!r}, "w")',)


def pickle_with_code(tmp):
  return pickle.dumps({'state_dict': _Code(tmp)}, protocol=2)


def zip_with_code(tmp):
  with zipfile.ZipFile(tmp / 'x.pth', 'w') as archive:
    archive.writestr('archive/data.pkl', pickle_with_code(tmp))


def start_run(tmp, **changes):
  """Writes what a run of `on_digits()` writes at its start."""
  config = digits.get_config()
  config.model.width, config.model.depth = 8, 1
  config.update_from_flattened_dict(changes)
  workdir.describe_run(epath.Path(tmp / 'run'), config, None, '')
  return tmp / 'run'


def add_foreign_orbax(tmp):
  """Adds a checkpoint as Orbax's manager writes it for most programs."""
  with ocp.CheckpointManager(start_run(tmp) / 'checkpoints') as manager:
    manager.save(5, args=ocp.args.StandardSave({'model': np.ones(3)}))


def add_other_tree(tmp):
  """Adds a checkpoint in our layout, of another network's state."""
  checkpointer = Checkpointer(epath.Path(start_run(tmp)), keep=1)
  state = TrainState(jnp.int32(5), {'dense': jnp.ones(3)}, {}, ())
  checkpointer.save(state, Progress(empty_window()))
  checkpointer.close()


def with_run(**files):
  """A set-up: a run of `on_digits()`, with files of other content."""

  def set_up(tmp):
    for name, content in files.items():
      (start_run(tmp) / name.replace('_', '.')).write_text(content)

  return set_up


HTML = b'<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n' * 9

CONFIGS = [
  Case(
    'no config',
    train(),
    'flag --config=None: Flag --config must have a value other than None.',
  ),
  Case(
    'no such config',
    train('--config=configs/nope.py'),
    '--config=configs/nope.py is not a file; configs/ has some',
  ),
  Case(
    'a file that is no config',
    train('--config=convmixer_jax/errors.py'),
    '--config=convmixer_jax/errors.py defines no get_config(); see '
    'configs/default.py',
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
    'config.model.width = 0 is not a whole number of at least 1',
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
    "config.model.activation = 'elu' is unknown; there are gelu, relu",
  ),
  flag(
    'model.depthwise',
    'fast',
    "config.model.depthwise = 'fast' is unknown; there are cpu, shift, xla",
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
    "config.dataset.name = '' is not a name; see configs/default.py",
  ),
  flag(
    'dataset.std',
    '(0.5,0.5,0.0)',
    'config.dataset.std = (0.5, 0.5, 0.0) is not positive',
  ),
  flag(
    'dataset.std',
    '(0.5,0.5)',
    'config.dataset.std = (0.5, 0.5) is not 3 values, each a finite '
    'number, such as (0.25, 0.25, 0.25)',
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
    'step',
    "config.schedule = 'step' is not one of triangular, cosine, constant",
  ),
  flag(
    'warmup_epochs',
    '1',
    "config.warmup_epochs = 1.0 is not for config.schedule = 'triangular', "
    "which has a rise of its own; leave it at 0, or choose 'cosine' or "
    "'constant'",
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
    'config.new_head = True, and config.init_from names no weights to '
    'put it on; name some, or start from random numbers with '
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
    'a string that nobody checked',
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
    "config.dataset.mean = ('a', 'b', 'c') is not 3 values, each a "
    'finite number, such as (0.5, 0.5, 0.5)',
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
    ('config.model.width is missing; add it, as configs/default.py has it: 64'),
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
    'get_config() of --config=TMP/mine.py returns None; return a '
    'ConfigDict, as in configs/default.py',
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
  in_file(
    'a config file that ends the process',
    'raise SystemExit(3)',
    '--config=TMP/mine.py fails in line 6 (SystemExit: 3); correct it; '
    '--debug shows more',
  ),
]

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
    'label are required; choose a data set of images with labels',
    label=None,
  ),
  data(
    'labels that are numbers',
    "config.dataset.name = 'tiny': its feature label does not define "
    "classes; choose a data set with TFDS's ClassLabel",
    label=tiny_sets.tensor_feature('int64'),
  ),
  data(
    'images that are numbers',
    "config.dataset.name = 'tiny' has a feature image of type Tensor, not "
    'Image, but images of uint8 with 1 or 3 channels are required; '
    'convert them, or choose another data set',
    image=tiny_sets.tensor_feature('float32', 8, 8, 3),
  ),
  data(
    '16-bit images',
    "config.dataset.name = 'tiny' has images of uint16, but images of "
    'uint8 with 1 or 3 channels are required; convert them, or choose '
    'another data set',
    image=tiny_sets.image_feature('uint16'),
  ),
  data(
    '4 channels',
    "config.dataset.name = 'tiny' has images of 4 channels, but images of "
    'uint8 with 1 or 3 channels are required; convert them, or choose '
    'another data set',
    image=tiny_sets.image_feature(channels=4),
  ),
  data(
    'one 16-bit image',
    "cannot decode image 5 of tiny train: mode 'I;16', grey with more "
    'than 8 bits (...); replace the file or leave it out of the '
    'data set',
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

START = [
  weights(
    'truncated safetensors',
    'x.safetensors',
    b'\x10' + bytes(7) + b'{',
    'TMP/x.safetensors is damaged or not a safetensors file (...); fetch it '
    'again',
  ),
  weights(
    'a page instead of safetensors',
    'x.safetensors',
    HTML,
    'TMP/x.safetensors is damaged or not a safetensors file (...); fetch it '
    'again',
  ),
  weights(
    'a page instead of a pickle',
    'x.pth',
    HTML,
    'TMP/x.pth is cut short, damaged, or not a file of PyTorch (...); '
    'fetch it again',
  ),
  Case(
    'a pickle with code',
    on_digits('--config.init_from=TMP/x.pth'),
    "TMP/x.pth is refused: it names '__builtin__.exec', and only tensors "
    'and plain containers are read; save only its state_dict',
    lambda tmp: (tmp / 'x.pth').write_bytes(pickle_with_code(tmp)),
  ),
  Case(
    'an archive with code',
    on_digits('--config.init_from=TMP/x.pth'),
    "TMP/x.pth is refused: it names '__builtin__.exec', and only tensors "
    'and plain containers are read; save only its state_dict',
    zip_with_code,
  ),
  weights(
    'weights of a residual network',
    'x.safetensors',
    {'conv1.weight': np.zeros((64, 3, 7, 7), np.float32)},
    'TMP/x.safetensors is no ConvMixer as timm or its authors lay it '
    'out; missing: stem.0.weight, ... and 12 more; surplus: '
    'conv1.weight; give weights of a ConvMixer',
  ),
  Case(
    'weights of another ConvMixer',
    on_digits(f'--config.init_from={WEIGHTS}'),
    'config.init_from = .../checkpoint_zip.pth.tar is of another '
    'network: config.model.width = 8 (there 4), config.model.depth = 1 '
    '(there 2), config.model.patch_size = 1 (there 2), '
    'config.model.kernel_size = 5 (there 3); give --config.model.width=4 '
    '--config.model.depth=2 --config.model.patch_size=2 '
    '--config.model.kernel_size=3',
  ),
  Case(
    "another program's checkpoint",
    on_digits('--config.init_from=TMP/run', workdir='TMP/new'),
    'TMP/run/checkpoints/5 is damaged or not a checkpoint of train.py (it has '
    'no state, so another program may have written it); choose another step or '
    'run',
    add_foreign_orbax,
  ),
  Case(
    "another network's checkpoint",
    on_digits('--config.init_from=TMP/run', workdir='TMP/new'),
    'TMP/run/checkpoints/5 is damaged or not a checkpoint of train.py (its '
    'network has no head); choose another step or run',
    add_other_tree,
  ),
  Case(
    'no weights',
    on_digits('--config.init_from=TMP/none.pth'),
    'there is no file or directory TMP/none.pth; give a run directory, a file '
    'of weights or hf://OWNER/NAME',
  ),
  Case(
    'no repository',
    on_digits('--config.init_from=hf://timm'),
    'hf://timm is not a repository; give hf://OWNER/NAME or '
    'hf://OWNER/NAME@REVISION',
  ),
]

WORKDIRS = [
  Case(
    'no directory',
    on_digits(workdir=''),
    'the name of a directory is empty; give one, such as runs/1',
  ),
  Case(
    'a file',
    on_digits(),
    '--workdir=TMP/run is a file; give a directory',
    lambda tmp: (tmp / 'run').write_text(''),
  ),
  Case(
    'below a file',
    on_digits(workdir='TMP/file/run'),
    '--workdir=TMP/file/run cannot be written to (Not a directory); make '
    'room or give another directory',
    lambda tmp: (tmp / 'file').write_text(''),
  ),
  Case(
    'not empty',
    on_digits(workdir='TMP'),
    '--workdir=TMP is not empty and not a run directory (no '
    'config.json); give a new or an empty directory',
    lambda tmp: (tmp / 'thesis.tex').write_text(''),
  ),
  Case(
    'not writable',
    on_digits(workdir='/proc/run'),
    '--workdir=/proc/run cannot be written to (...); make room or give '
    'another directory',
  ),
  Case(
    'of another config',
    on_digits(),
    '--workdir=TMP/run holds a run with another config: seed (1 -> 0); '
    'give the old values or a new --workdir',
    lambda tmp: start_run(tmp, seed=1),
  ),
  Case(
    'of another network',
    train('--config=configs/digits.py', '--config.model.name=vit'),
    '--workdir=TMP/run holds a run with another config: model.name '
    '(convmixer -> vit); give the old values or a new --workdir',
    start_run,
  ),
  Case(
    'of a config that is none',
    on_digits(),
    'TMP/run/config.json is not a config of a run (...); give another '
    'directory',
    with_run(config_json='[1]'),
  ),
  Case(
    'of a config of others',
    on_digits(),
    'TMP/run/config.json is not a config of a run (it has no '
    'augment.eval_crop_fraction, dataset.image_size, dtype); give another '
    'directory',
    with_run(config_json='{"model": {"name": "resnet"}, "dataset": "cifar10"}'),
  ),
  Case(
    'with metrics of others',
    on_digits(),
    'TMP/run/metrics.csv is not a table of metrics (KeyError: '
    "'step'); correct it, or move it away",
    with_run(metrics_csv='a,b\n1,2\n'),
  ),
  Case(
    'with a file for checkpoints',
    on_digits(),
    'TMP/run/checkpoints is a file, not a directory of checkpoints; move '
    'it away',
    with_run(checkpoints=''),
  ),
  Case(
    'with the checkpoint of another program',
    on_digits(),
    'no checkpoint in TMP/run/checkpoints is undamaged and of this run: 5 '
    '(it has no state, so another program may have written it); put a '
    'copy of one there, or give a new --workdir to start from scratch',
    add_foreign_orbax,
  ),
  Case(
    'with the checkpoint of another network',
    on_digits(),
    'no checkpoint in TMP/run/checkpoints is undamaged and of this run: 5 '
    '(ValueError: ...); put a copy of one there, or give a new --workdir '
    'to start from scratch',
    add_other_tree,
  ),
]

TOOLS = [
  Case(
    'evaluate nothing',
    tool('evaluate'),
    '--source is missing; give the network to load: --source=RUN, a run '
    'directory, --source=FILE of weights or --source=hf://OWNER/NAME',
  ),
  Case(
    'evaluate no run',
    tool('evaluate', '--source=TMP'),
    'TMP is neither a run (it has no config.json) nor weights (it has no '
    'model.safetensors); give a run directory, a file of weights or '
    'hf://OWNER/NAME',
  ),
  Case(
    'evaluate on nothing',
    tool('evaluate', f'--source={WEIGHTS}', '--model=gelu'),
    '--dataset=NAME is needed: weights do not name a data set',
  ),
  Case(
    'evaluate converted weights on nothing',
    tool('evaluate', '--source=TMP/converted'),
    '--dataset=NAME is needed: weights do not name a data set',
    lambda tmp: convert.convert(WEIGHTS, f'{tmp}/converted', 'gelu'),
  ),
  Case(
    'evaluate on other classes',
    tool('evaluate', f'--source={WEIGHTS}', '--model=gelu', '--dataset=digits'),
    'the network has 3 classes and the data set 10, and the names of its '
    'classes are unknown; choose the set it was trained on, or another with '
    'the same classes',
  ),
  Case(
    'evaluate the best of none',
    tool('evaluate', '--source=TMP/run@best'),
    'no checkpoint of TMP/run was evaluated, so none is the best; there are 5',
    add_foreign_orbax,
  ),
  Case(
    'evaluate a checkpoint that is not one',
    tool('evaluate', '--source=TMP/run@last'),
    "TMP/run@last: 'last' is not a checkpoint; give TMP/run@STEP, "
    'TMP/run@best or TMP/run@newest',
    add_foreign_orbax,
  ),
  Case(
    'evaluate a step that is missing',
    tool('evaluate', '--source=TMP/run@4'),
    'TMP/run has no checkpoint of step 4; there are 5',
    add_foreign_orbax,
  ),
  Case(
    'evaluate a checkpoint of weights',
    tool('evaluate', f'--source={WEIGHTS}@best'),
    f'{WEIGHTS}@best: {WEIGHTS} is not a run directory, so it has no '
    "checkpoint 'best'; leave out @best",
  ),
  Case(
    'evaluate a run as another network',
    tool('evaluate', '--source=TMP/run', '--model=768_32'),
    'TMP/run is a run, whose config names its network; leave out '
    '--model=768_32',
    add_foreign_orbax,
  ),
  Case(
    'predict with a run that is missing',
    tool('predict', 'TMP/x.png', '--source=TMP/none@best'),
    'there is no file or directory TMP/none@best, and no run TMP/none; give '
    'a run directory, a file of weights or hf://OWNER/NAME',
  ),
  Case(
    "evaluate another program's",
    tool('evaluate', '--source=TMP/run'),
    'TMP/run/checkpoints/5 is damaged or not a checkpoint of train.py (it has '
    'no state, so another program may have written it); choose another '
    'step or run',
    add_foreign_orbax,
  ),
  Case(
    'evaluate with labels that are none',
    tool('evaluate', '--source=TMP/run'),
    'TMP/run/labels.json is not a list of names (...); restore the one '
    'that train.py wrote, or remove it',
    with_run(labels_json='{'),
  ),
  Case(
    'predict no picture',
    tool('predict', '--source=TMP/run'),
    'no picture is named; name image files or folders of them',
  ),
  Case(
    'predict a picture that is not there',
    tool('predict', 'TMP/x.png', f'--source={WEIGHTS}', '--model=gelu'),
    'TMP/x.png does not exist; name image files or folders',
  ),
  Case(
    'convert to a file that is there',
    tool('convert', WEIGHTS, 'TMP/x.safetensors'),
    'TMP/x.safetensors is there already; remove it, or choose another',
    lambda tmp: (tmp / 'x.safetensors').write_text(''),
  ),
  Case(
    'convert to a pickle',
    tool('convert', WEIGHTS, 'TMP/x.pth'),
    'TMP/x.pth: only FILE.safetensors or a directory can be written',
  ),
  Case(
    'convert to nowhere',
    tool('convert', WEIGHTS, 'TMP/a/x.safetensors', '--model=gelu'),
    'TMP/a/x.safetensors cannot be written (...); choose another place',
  ),
  Case(
    'export to a format that is none',
    tool('export', '--output=TMP/x', f'--source={WEIGHTS}', '--format=pt'),
    '--format=pt is unknown; there are stablehlo, onnx',
  ),
  Case(
    'export to nowhere',
    tool('export', f'--source={WEIGHTS}'),
    'flag --output=None: Flag --output must have a value other than None.',
  ),
  Case(
    'plan for a chip that is none',
    tool('plan', '--config=configs/digits.py', '--topology=v9:2x2'),
    '--topology=v9:2x2 is unknown; there are v4: 2x2x1, ...; h100: 1x8, '
    'HOSTSxGPUS',
  ),
  Case(
    'plan to a file that cannot be',
    tool(
      'plan',
      '--config=configs/digits.py',
      '--topology=v5e:2x2',
      '--output=TMP/a/plan.json',
    ),
    '--output=TMP/a/plan.json cannot be a file; give one in a '
    'directory that exists',
  ),
  Case(
    'prepare nothing',
    tool('prepare'),
    '0 data sets are named, not one; such as: python -m '
    'convmixer_jax prepare cifar10 --data_dir=DIR',
  ),
  Case(
    'prepare a set that is none',
    tool('prepare', 'imagnet', '--data_dir=TMP'),
    "'imagnet' is neither digits nor a TFDS data set; "
    'https://www.tensorflow.org/datasets/catalog lists them',
  ),
  Case(
    'prepare in a bucket',
    tool('prepare', 'cifar10', '--data_dir=gs://bucket'),
    '--data_dir=gs://bucket is not a local directory, and array_record '
    'files can only be written to one; prepare there, then copy the '
    'directory',
  ),
]

# What is wrong with them is in wrong_networks.py.
NETWORKS = [
  network(
    'nowhere:X',
    "there is no module 'nowhere'; start the command in the directory "
    'where it is, or add that to PYTHONPATH',
  ),
  network(':X', 'give MODULE:ATTRIBUTE, such as my_network:MY_NETWORK'),
  network(
    'wrong_exit:X',
    'wrong_exit cannot be imported (SystemExit: 3); correct it; --debug '
    'shows more',
  ),
  network(
    'wrong_networks:NONE',
    "wrong_networks has no 'NONE'; its Architectures: RAISES, ...",
  ),
  network(
    'wrong_networks:NO_MODULE',
    "its module is <class 'flax.linen.module.Module'>; give a class that "
    'extends nn.Module',
  ),
  network(
    'wrong_networks:A_FUNCTION',
    'its module is <function ...>; give a class that extends nn.Module',
  ),
  network(
    'wrong_networks:OF_THE_PACKAGE',
    'its module is the ConvMixer of this package; name that network, or '
    'give a class that extends it',
  ),
  network(
    'wrong_networks:NO_MAPPING',
    'its fields are no dict of names and Field(...); see '
    'docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:NO_FIELDS',
    'its fields are no dict of names and Field(...); see '
    'docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:RESERVED_FIELD',
    "its field 'name' has a reserved name (that is the key of the "
    'network itself, and Flax has it too); call it otherwise',
  ),
  network(
    'wrong_networks:SURPLUS_FIELD',
    "Base has no attribute 'depth'; add it, such as 'depth: int'",
  ),
  network(
    'wrong_networks:WITHOUT_NUM_CLASSES',
    "WithoutNumClasses has no attribute 'num_classes'; add it, such as "
    "'num_classes: int'",
  ),
  network(
    'wrong_networks:NEEDS_DEPTH',
    "NeedsDepth needs 'depth', which is not among its fields; add it "
    'there, or give it a default',
  ),
  network(
    'wrong_networks:WITHOUT_CALL',
    'WithoutCall has no __call__; see docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:WITHOUT_TRAIN',
    'WithoutTrain.__call__ has no argument train; define __call__(self, '
    'images, *, train)',
  ),
  network(
    'wrong_networks:RAISES',
    'Raises fails in init (RuntimeError: no such); correct it; --debug '
    'shows more',
  ),
  network(
    'wrong_networks:RAISES_IN_TRAINING',
    'RaisesInTraining fails in apply with train=True (KeyError: '
    "'train'); correct it; --debug shows more",
  ),
  network(
    'wrong_networks:RAISES_WHEN_CREATED',
    'the module cannot be created (RuntimeError: not today); correct it; '
    '--debug shows more',
  ),
  network(
    'wrong_networks:OTHER_OUTPUTS',
    "its head 'head' has 7 outputs, not num_classes = 10; give it that many",
  ),
  network(
    'wrong_networks:OTHER_LOGITS',
    'OtherLogits returns float32 [2, 2] with train=False; return float32 '
    '[B, num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:HALF_LOGITS',
    'HalfLogits returns bfloat16 [2, 10] with train=False; return '
    'float32 [B, num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:TWO_RESULTS',
    'TwoResults returns a tuple with train=False; return float32 [B, '
    'num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:HALF_PARAMETERS',
    'params/head/bias is bfloat16; make it float32',
  ),
  network(
    'wrong_networks:COUNTS',
    "it has variables in 'cache', which a run does not keep; use params "
    'and batch_stats alone',
  ),
  network(
    'wrong_networks:NO_GATHER',
    'Base has no attribute gather, which a network with stacked blocks '
    "needs; add 'gather: Gather | None = None' and give it to create_block; "
    'see docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:NO_STACK',
    "its parameters in 'blocks' are not stacked along a leading axis of the "
    'same length; use nn.scan, or leave it out of Architecture(stacked=)',
  ),
  network(
    'wrong_networks:UNEVEN_STACK',
    "its parameters in 'head' are not stacked along a leading axis of the "
    'same length; use nn.scan, or leave it out of Architecture(stacked=)',
  ),
  network(
    'wrong_networks:NO_HEAD',
    "its head is 'classifier', and there is no module of this name; "
    'there are head; name the last dense layer so, or give '
    'Architecture(head=)',
  ),
]

CASES = [*CONFIGS, *NETWORKS, *DATA, *START, *WORKDIRS, *TOOLS]
