"""The comparison with timm's outputs prints differences, and fails on them.

The reference is the ConvMixer of fixtures/model.npz, with timm's outputs.
"""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from convmixer_jax.benchmarks import machine
from scripts import compare_with_reference

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
CASE = 'gelu_k5/'


def write_reference(folder, wrong=None, off=0.0, parameters=0):
  """Writes weights and outputs; to `wrong` is added `off`.

  `parameters` are more than there are.
  """
  with np.load(FIXTURES / 'model.npz') as file:
    start = f'{CASE}weights/'
    tensors = {
      name.removeprefix(start): file[name]
      for name in file
      if name.startswith(start)
    }
    arrays = {'image': file[f'{CASE}images']}
  with np.load(FIXTURES / 'features.npz') as file:
    arrays |= {
      'logits': file[f'{CASE}logits'],
      'pre_logits': file[f'{CASE}pooled'],
      'features': file[f'{CASE}forward_features'].transpose(0, 3, 1, 2),
    }
  if wrong:
    arrays[wrong] = arrays[wrong] + np.float32(off)
  safetensors.numpy.save_file(tensors, folder / 'model.safetensors')
  np.savez(folder / '13x11.npz', **arrays)
  count = parameters + sum(
    tensor.size
    for name, tensor in tensors.items()
    if 'running_' not in name and 'num_batches' not in name
  )
  (folder / 'meta.json').write_text(json.dumps({'parameters': count}))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Returns a function that compares with a reference: status and output."""

  def call(**changes):
    write_reference(tmp_path, **changes)
    monkeypatch.setattr(sys, 'argv', ['', f'--reference={tmp_path}'])
    return compare_with_reference.main(), capsys.readouterr().out

  return call


def test_timms_outputs_are_within_the_tolerance(run):
  status, output = run()
  assert status == 0
  assert output.endswith(
    'All are within the tolerance; all weights come back.\n'
  )


def test_output_names_versions_and_processor(run):
  first = run()[1].splitlines()[0]
  host = machine.describe_machine()
  assert f'jax {jax.__version__}' in first
  assert f'{host["cores"]} cores of {host["processor"]}' in first


@pytest.mark.parametrize('wrong', ['logits', 'pre_logits', 'features'])
def test_an_output_beyond_the_tolerance_fails(run, wrong):
  status, output = run(wrong=wrong, off=1e-3)
  assert status == 1
  assert '13x11: beyond the tolerance' in output


def test_nan_fails(run):
  assert run(wrong='logits', off=np.nan)[0] == 1


def test_another_number_of_parameters_fails(run):
  status, output = run(parameters=1)
  assert status == 1
  assert 'parameters, not' in output
