"""Bad arguments of the commands besides train, with their errors."""

import tiny_sets
from bad_input import WEIGHTS, Case, add_foreign_orbax, tool, with_run

from convmixer_jax.cli import convert

EVALUATE_TINY = (
  'evaluate',
  f'--source={WEIGHTS}',
  '--model=gelu',
  '--dataset=tiny',
  '--split=train',
  '--data_dir=TMP/data',
)
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
    'the network has 3 classes and the data set 10, and the names of '
    "the network's classes are unknown; choose the set it was trained on, or "
    'another with the same classes',
  ),
  Case(
    'evaluate the best of none',
    tool('evaluate', '--source=TMP/run@best'),
    'no checkpoint of TMP/run was evaluated, so none is the best; it '
    'has that of step 5',
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
    'TMP/run has no checkpoint of step 4; it has that of step 5',
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
    '--output is missing; give it: directory to write files to',
  ),
  Case(
    'plan for a chip that is none',
    tool('plan', '--config=configs/digits.py', '--topology=v9:2x2'),
    '--topology=v9:2x2 is unknown; there are v4: 2x2x1, ...; h100: 1x8, '
    'HOSTSxGPUS',
  ),
  Case(
    'plan with a magnitude that the policy does not have',
    tool(
      'plan',
      '--config=configs/digits.py',
      '--topology=v5e:2x2',
      '--config.augment.rand_augment.magnitude=11',
    ),
    'config.augment.rand_augment.magnitude = 11.0 is not from 0 to 10',
  ),
  Case(
    'plan with a network of no width',
    tool(
      'plan',
      '--config=configs/digits.py',
      '--topology=v5e:2x2',
      '--config.model.width=0',
    ),
    'config.model.width = 0 is not at least 1',
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
    'measure networks to a file that cannot be',
    tool('benchmark', 'model', '--output=TMP/a/model.json'),
    '--output=TMP/a/model.json cannot be a file; give one in a directory that '
    'exists',
  ),
  Case(
    'measure the input to a directory',
    tool('benchmark', 'input', '--folder=TMP', '--output=TMP'),
    '--output=TMP cannot be a file; give one in a directory that exists',
  ),
  Case(
    'export to a file',
    tool(
      'export',
      '--output=TMP/x',
      f'--source={WEIGHTS}',
      '--model=gelu',
    ),
    '--output=TMP/x cannot be written to (File exists); make room or give '
    'another directory',
    lambda tmp: (tmp / 'x').write_text(''),
  ),
  Case(
    'evaluate on images that cannot be decoded',
    tool(*EVALUATE_TINY, '--output=TMP/a/out'),
    'cannot decode image 5 of tiny train: not an image that Pillow knows '
    '(0 bytes); replace the file or leave it out of the data set',
    lambda tmp: tiny_sets.write_set(
      tmp / 'data', tiny_sets.examples(changed={5: (b'', 1)})
    ),
  ),
  Case(
    'evaluate on several labels for an image',
    tool(*EVALUATE_TINY),
    "config.dataset.name = 'tiny': its feature label has several labels for an "
    "image, and one is required; store one as TFDS's ClassLabel, train with "
    'config.dataset.multi_label = True, or choose another data set',
    lambda tmp: tiny_sets.write_set(
      tmp / 'data', label=tiny_sets.sequence_feature(tiny_sets.LABEL)
    ),
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
    'prepare ImageNet without its tars',
    tool('prepare', 'imagenet2012', '--data_dir=TMP/a/b'),
    '--manual_dir=TMP/a/b/downloads/manual has no ILSVRC2012_img_train.tar and '
    'no ILSVRC2012_img_val.tar; it must have ILSVRC2012_img_train.tar and '
    'ILSVRC2012_img_val.tar, from https://image-net.org/download-images',
  ),
  Case(
    'prepare in a bucket',
    tool('prepare', 'cifar10', '--data_dir=gs://bucket'),
    '--data_dir=gs://bucket is not a local directory, and array_record '
    'files can only be written to one; prepare there, then copy the '
    'directory',
  ),
]
