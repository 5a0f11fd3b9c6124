"""One process that has imported what commands take long to import.

What forks from it starts in a tenth of a second.
"""

import atexit
import functools
import multiprocessing
import os
import pathlib
import shutil
import tempfile
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]
# What takes long to import, and defines no flags that commands define too.
_PRELOADED = [
  'convmixer_jax.export',
  'convmixer_jax.analysis.plots',
  'convmixer_jax.cli.command',
  'convmixer_jax.training.loop',
  'pytest',
  'sklearn.datasets',
  # All its data sets, as it imports them when it looks for one.
  'tensorflow_datasets',
  *(
    f'tensorflow_datasets.{package}'
    for package in (
      *('audio', 'd4rl', 'graphs', 'image', 'image_classification'),
      *('nearest_neighbors', 'object_detection', 'question_answering'),
      *('ranking', 'recommendation', 'rl_unplugged', 'rlds.datasets'),
      *('robomimic', 'robotics', 'structured', 'summarization', 'text'),
      *('text_simplification', 'time_series', 'translate', 'video'),
      'vision_language',
    )
  ),
]
_directories = []  # of what they compiled


@functools.cache
def context() -> BaseContext:
  """Starts that process, once for all; returns what makes others from it."""
  cache = tempfile.mkdtemp()
  _directories.append(cache)
  environment = {
    'GLIBC_TUNABLES': '',  # a forked process cannot be re-executed
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
    'TF_CPP_MIN_LOG_LEVEL': '2',
    'TF_ENABLE_ONEDNN_OPTS': '0',
    # Compiling is most of what is left of a start, and is not cached for
    # the second of two processes.
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
  }
  made = multiprocessing.get_context('forkserver')
  made.set_forkserver_preload(_PRELOADED)
  with mock.patch.dict(os.environ, environment):
    forkserver.ensure_running()
  return made


@atexit.register
def clean() -> None:
  """Deletes what was compiled. Workers of pytest end without `atexit`."""
  while _directories:
    shutil.rmtree(_directories.pop(), ignore_errors=True)
