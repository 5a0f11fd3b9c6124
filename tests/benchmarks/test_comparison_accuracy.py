"""Accuracies of a comparison: whose weights, which images, and when again."""

import dataclasses

import architectures
import commands
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from configs import digits
from convmixer_jax.benchmarks.comparison import accuracy, report, run
from convmixer_jax.benchmarks.comparison.networks import (
  Network,
  choose_networks,
)
from convmixer_jax.benchmarks.comparison.rows import Rows
from convmixer_jax.data import sources
from convmixer_jax.errors import UserError
from convmixer_jax.models import MODELS
from convmixer_jax.pretrained.load import load

TINY = architectures.TINY['convmixer']
NETWORKS = [
  Network('small', 'convmixer', TINY),
  Network('wide', 'convmixer', {**TINY, 'width': 16}),
]
COUNTS_ONLY = run.Options(image_size=8, speed=False)


def silent(line):
  del line


def test_weights_are_for_networks_that_are_compared(tmp_path):
  path = tmp_path / 'a.safetensors'
  path.touch()
  parts = ['released', f'small={path}', 'wide=hf://owner/name']
  assert accuracy.parse_weights(parts, NETWORKS) == (
    {'small': str(path), 'wide': 'hf://owner/name'},
    True,
  )
  for part, problem in (
    ('small=b.safetensors', 'there is no file or directory b.safetensors'),
    ('deit_b=a.safetensors', "'deit_b' is not compared"),
    ('a.safetensors', 'is neither released nor NAME=SOURCE'),
  ):
    with pytest.raises(UserError, match=problem):
      accuracy.parse_weights([part], NETWORKS)


def test_runs_are_evaluated_as_the_network_that_they_have(tmp_path):
  weights, run_directory = tmp_path / 'a.safetensors', tmp_path / 'run'
  weights.touch()
  run_directory.mkdir()
  (run_directory / 'config.json').touch()
  (network,) = choose_networks(['deit_b'])
  test = accuracy.Test({}, False, 'imagenet2012')
  for source, named in ((weights, True), (run_directory, False)):
    command = test.command(network, str(source), 'output')
    assert ('--model=deit_b' in command) == named
  assert '--size=288,288' in test.command(network, 'hf://a/b', 'output', 288)


def test_accuracy_is_measured_again_of_other_weights_or_images(
  tmp_path, monkeypatch
):
  measured = []

  def evaluate(test, network, source, size):
    measured.append((network.name, source, test.split))
    if source == 'lost':
      return {'failed': 'no such file'}
    found = {'measured_weights': source, 'images': test.images()}
    return {'measured_top1': 50.0, 'measured_on': test.dataset, **found}

  monkeypatch.setattr(accuracy.Test, 'evaluate', evaluate)
  monkeypatch.setattr(run, 'write', lambda rows, directory: None)

  def measure_again(source, split=None):
    test = accuracy.Test({'small': source}, False, 'digits', split)
    options = dataclasses.replace(COUNTS_ONLY, test=test)
    measured.clear()
    rows = run.run(NETWORKS, options, epath.Path(tmp_path), silent)
    return rows.by_name['small'], list(measured)

  assert measure_again('a')[1] == [('small', 'a', None)]
  assert measure_again('a')[1] == []
  assert measure_again('b')[0]['measured_weights'] == 'b'
  assert measure_again('b', 'train')[1] == [('small', 'b', 'train')]
  row, _ = measure_again('lost', 'train')
  assert row['failed'] == {'top-1': 'no such file'}
  assert 'measured_top1' not in row


def test_weights_that_cannot_be_evaluated_end_the_command_with_an_error(
  tmp_path,
):
  damaged = tmp_path / 'damaged.safetensors'
  damaged.write_bytes(b'{')
  done = commands.run(
    ['convmixer_jax', 'compare', '--models=resmlp_s12', '--nospeed']
    + [f'--weights=resmlp_s12={damaged}', '--dataset=digits']
  )
  assert done.returncode == 1
  assert '## Counts' in done.stdout  # they are shown all the same
  assert 'is damaged or not a safetensors file' in done.stdout
  assert 'error: not measured: resmlp_s12 top-1; the table' in done.stderr


@pytest.mark.slow
def test_accuracy_measured_is_that_of_the_weights(tmp_path):
  _, variables = architectures.create('resmlp')
  tensors = MODELS['resmlp'].state_dict.to_timm(variables)
  path = str(tmp_path / 'resmlp.safetensors')
  safetensors.numpy.save_file(tensors, path)
  network = Network('small', 'resmlp', architectures.TINY['resmlp'])
  test = accuracy.Test({'small': path}, False, 'digits')
  found = test.evaluate(network, path)
  source = sources.open_source(digits.get_config().dataset, 'test')
  examples = [source[number] for number in range(len(source))]
  logits = load(path).logits([example['image'] for example in examples])
  labels = [int(example['label']) for example in examples]
  correct = np.sum(np.argmax(logits, axis=-1) == labels)
  assert 0 < correct < len(labels)
  assert found['measured_top1'] == pytest.approx(100 * correct / len(labels))
  assert found['measured_on'] == 'digits test'

  # Weights of another network: one line.
  network, _ = choose_networks(['resmlp_s12', 'deit_b'])
  failed = test.evaluate(network, path)['failed']
  assert 'resmlp.safetensors has ' in failed and '\n' not in failed


def test_accuracy_at_another_size_than_the_counts_says_so():
  rows = Rows({})
  (network,) = choose_networks(['resnet152'])
  counts = {'parameters': 1, 'macs': 1, 'activations': 1, 'image_size': 224}
  rows.add('resnet152', counts | run.find_published(network))
  text = report.to_markdown(rows)
  line = '| resnet152 | resnet152.a1_in1k | {} | 82.742 |'
  assert line.format('288 (counts: 224)') in text
  assert '| resnet152 | resnet152.tv_in1k | 224 | 78.330 |' in text
  rows.add('resnet152', {'image_size': 288})  # --image_size=288
  assert line.format('288') in report.to_markdown(rows)
