"""Bad weights to start from and bad run directories, with their errors."""

import json

import numpy as np
from bad_input import (
  HTML,
  WEIGHTS,
  Case,
  add_foreign_orbax,
  add_other_tree,
  on_digits,
  pickle_with_code,
  start_run,
  train,
  weights,
  with_run,
  zip_with_code,
)

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
    'weights of another kind of network',
    'x.safetensors',
    {'features.0.weight': np.zeros((64, 3, 3, 3), np.float32)},
    'TMP/x.safetensors is not a ConvMixer as timm or its authors lay it '
    'out; missing: stem.0.weight, ... and 12 more; surplus: '
    'features.0.weight; give weights of a ConvMixer',
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

OTHER_DATA = json.dumps(
  {
    'name': 'pets',
    'config': '',
    'version': '',
    'class_names': list('0123456789'),
    'splits': {},
  }
)

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
    'of other data',
    on_digits(),
    '--workdir=TMP/run holds a run on other data; changed: name (pets -> '
    'digits); give the data it was started on (config.dataset.data_dir, or '
    'NAME:VERSION as config.dataset.name) or a new --workdir; if only damaged '
    'images were replaced, remove data.json from it and start again',
    with_run(data_json=OTHER_DATA),
  ),
  Case(
    'of data that is none',
    on_digits(),
    'TMP/run/data.json does not describe the data of a run (name is missing or '
    'not of type str); restore the one that train.py wrote, or remove it',
    with_run(data_json='{}'),
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
