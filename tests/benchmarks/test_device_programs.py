"""The programs that the benchmark of a device starts, in small on the CPU."""

import jax
import pytest

from convmixer_jax.benchmarks.device import (
  ceilings,
  input_pass,
  operations,
  picture,
  sanitized,
)
from convmixer_jax.benchmarks.device.settings import DepthwiseShape


def test_rates_of_copies_and_products_are_measured():
  request = {'copy_mib': 1, 'product_size': 32, 'on_cpu': True}
  about, copy, product = ceilings._work(request)
  assert about['platform'] == 'cpu'
  assert about['versions']['jax'] == jax.__version__
  assert copy['gb_per_sec'] > 0
  assert product['tflops'] > 0


@pytest.mark.parametrize('request_', [None, {'on_cpu': False}])
def test_cpu_is_reported_but_not_measured_unless_asked_for(request_):
  (about,) = ceilings._work(request_)
  assert about['devices'] == 1


@pytest.mark.parametrize('on_device', [False, True])
def test_input_is_timed_on_the_host_and_on_devices(on_device):
  changes = {
    'input.on_device': on_device,
    'dataset.name': 'digits',
    'dataset.image_size': 8,
    'batch_size': 8,
    'input.num_threads': 2,
  }
  (row,) = input_pass._work({'config': changes, 'seconds': 0.0})
  assert row['images'] == 1442
  assert row['made_by'] == ('devices' if on_device else 'host')
  assert row['images_per_sec'] > 0


def test_each_kernel_runs_once_for_the_sanitizer(monkeypatch, capsys):
  monkeypatch.setattr(operations, 'custom_kernels', lambda platform: ['shift'])
  monkeypatch.setattr(sanitized, '_SHAPES', (DepthwiseShape(2, 4, 16, 3),))
  sanitized.main()
  lines = capsys.readouterr().out.splitlines()
  assert [line.partition(' [')[0] for line in lines] == [
    'depthwise',
    'gelu layer in training',
    'relu layer in training',
    'mixer with gelu',
    'mixer with relu',
  ]
  # What is fused is only part of the default.
  assert lines[0].endswith(' shift')
  assert all(line.endswith(' default') for line in lines[1:])


def test_picture_has_a_plot_for_each_network_and_kind():
  rows = [
    {'stage': 'models', 'network': 'tiny', 'framework': name, 'kind': kind}
    | ({'images_per_sec': rate} if rate else {'missing': 'no time was left'})
    for name, rate in {'plain Flax': 80.0, 'PyTorch': None}.items()
    for kind in ('train', 'forward')
  ]
  figure = picture.plot_throughput(rows, 'a CPU')
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ['tiny, training', 'tiny, inference']
  assert picture.plot_throughput(rows[2:], 'a CPU') is None
