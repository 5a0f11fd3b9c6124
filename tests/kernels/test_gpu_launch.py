"""The handler that launches GPU kernels, against a driver that is not there.

A fake libcuda records the launches, and the handler runs on the CPU, so what
XLA passes and what reaches the driver is checked without a GPU.
"""

import ctypes
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convmixer_jax.kernels import depthwise_conv
from convmixer_jax.kernels.cpu import build
from convmixer_jax.kernels.gpu import instances, library

HERE = pathlib.Path(__file__).parent

pytestmark = pytest.mark.slow  # compiles C++ twice


@pytest.fixture(scope='module')
def driver(tmp_path_factory):
  """The fake driver, and its `handler`, which is for CPUs."""
  directory = tmp_path_factory.mktemp('gpu')
  compiled = {}
  for name, flags in (
    ('fake_cuda', []),
    (
      'gpu_driver',
      [
        *('-isystem', jax.ffi.include_dir()),
        f'-DCUDA_DRIVER="{directory / "fake_cuda.so"}"',
      ],
    ),
  ):
    compiled[name] = directory / f'{name}.so'
    subprocess.run(
      [
        *build._compiler(),
        *('-std=c++17', '-O1', '-Wall', '-Werror', '-fPIC', '-shared'),
        *(f'-I{library._HOST_DIR}', str(HERE / f'{name}.cc'), *flags),
        *('-ldl', '-o', str(compiled[name])),
      ],
      check=True,
    )
  fake = ctypes.CDLL(str(compiled['fake_cuda']))
  fake.fake_launches.restype = ctypes.c_char_p
  handler = ctypes.CDLL(str(compiled['gpu_driver']))
  jax.ffi.register_ffi_target(
    library.HANDLER, jax.ffi.pycapsule(handler.convmixer_cpu_launch), 'cpu'
  )
  fake.handler = handler
  return fake


@pytest.fixture(autouse=True)
def clean(driver):
  yield
  driver.fake_fail(b'')
  driver.fake_launches()


def add_module(driver, name, *entries):
  text = '\n'.join(entries).encode() + b'\0'
  driver.handler.convmixer_gpu_add(
    name.encode(), text, ctypes.c_size_t(len(text))
  )


def launch(module, entry='scale', **changes):
  """Calls the handler with two operands and two results of bytes."""
  attributes = {
    'grid': [3, 2, 1],
    'block': [32, 4, 1],
    'shared_bytes': 50000,
    'pointers': [2, 0, -1, 1],
    'bytes': [4, 6, 8, 8],
    'numbers': [-5, 2**31 - 1],
  } | changes
  call = jax.ffi.ffi_call(
    library.HANDLER, (jax.ShapeDtypeStruct((8,), jnp.uint8),) * 2
  )
  results = call(
    jnp.full(4, 11, jnp.uint8),
    jnp.full(6, 22, jnp.uint8),
    module=module,
    entry=entry,
    shared_bytes=np.int64(attributes.pop('shared_bytes')),
    **{key: np.array(value, np.int64) for key, value in attributes.items()},
  )
  return jax.block_until_ready(results)


def test_launch_has_the_geometry_and_the_order_of_the_call(driver):
  add_module(driver, 'order', 'scale 4 2')
  launch('order', pointers=[1, 0, -1, 1])
  assert driver.fake_launches().decode() == (
    'scale grid 3 2 1 block 32 4 1 shared 50000 context 100 '
    'addresses 22 11 null 22 numbers -5 2147483647\n'
  )


def test_module_is_loaded_once_by_all_threads_and_programs(driver):
  add_module(driver, 'once', 'scale 4 2', 'other 4 2')
  before = driver.fake_loads()
  for entry in ('scale', 'other', 'scale'):
    launch('once', entry)
  assert driver.fake_loads() == before + 1
  assert driver.fake_launches().count(b'\n') == 3


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'bytes': [4, 6, 8]}, 'it takes 3 arrays, not 4'),
    ({'bytes': [4, 7, 8, 8]}, 'array 1 has 6 bytes, not 7'),
    ({'bytes': [4, 6, 8, 9]}, 'array 3 has 8 bytes, not 9'),
    ({'grid': [0, 1, 1]}, 'no GPU can start this grid'),
    ({'grid': [1, 65536, 1]}, 'no GPU can start this grid'),
    ({'grid': [1, 1]}, 'no GPU can start this grid'),
    ({'block': [512, 4, 1]}, 'no GPU can start this block'),
    ({'shared_bytes': -1}, 'no GPU can start this block'),
    ({'pointers': [0, 4]}, 'there is no array 4'),
    ({'pointers': [-2]}, 'there is no array -2'),
    ({'numbers': [2**31]}, '2147483648 has more than 32 bits'),
  ],
)
def test_calls_that_do_not_fit_the_kernel_are_refused(driver, changes, message):
  add_module(driver, 'checked', 'scale 4 2')
  with pytest.raises(jax.errors.JaxRuntimeError) as error:
    launch('checked', **changes)
  assert f'GPU kernel scale: {message}' in str(error.value)
  assert driver.fake_launches() == b''


@pytest.mark.parametrize(
  'function',
  [
    'cuStreamGetCtx',
    'cuCtxPushCurrent',
    'cuModuleLoadData',
    'cuFuncSetAttribute',
    'cuLaunchKernel',
  ],
)
def test_error_of_the_driver_is_one_of_xla(driver, function):
  add_module(driver, f'fails_{function}', 'scale 4 2')
  driver.fake_fail(function.encode())
  with pytest.raises(jax.errors.JaxRuntimeError) as error:
    launch(f'fails_{function}')
  expected = f'GPU kernel scale: {function}: asked to fail (CUDA_ERROR_FAKE)'
  assert expected in str(error.value)
  driver.fake_fail(b'')
  launch(f'fails_{function}')  # nothing is left of it


def test_xla_may_record_launches_in_cuda_graphs(driver):
  compatible = 1  # XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE
  assert driver.handler.convmixer_gpu_launch_traits() == compatible


def test_code_that_is_not_in_this_process_is_named(driver):
  with pytest.raises(jax.errors.JaxRuntimeError, match='compiled by another'):
    launch('none_such')
  add_module(driver, 'other_entry', 'other 4 2')
  with pytest.raises(jax.errors.JaxRuntimeError, match='cuModuleGetFunction'):
    launch('other_entry')


@pytest.mark.parametrize(
  ('function', 'reason'),
  [
    (b'', b''),
    (b'cuInit', b'cuInit: asked to fail (CUDA_ERROR_FAKE)'),
    (b'cuModuleLoadData', b'cuModuleLoadData: asked to fail'),
  ],
)
def test_loading_before_the_first_call_says_what_is_wrong(
  driver, function, reason
):
  name = b'early_' + function
  add_module(driver, name.decode(), 'scale 4 2')
  driver.fake_fail(function)
  text = ctypes.create_string_buffer(200)
  driver.handler.convmixer_gpu_load(
    name, b'scale', 50000, 1, text, ctypes.c_size_t(200)
  )
  assert text.value.startswith(reason)
  assert bool(text.value) == bool(reason)


def test_convolution_launches_what_its_instance_says(driver, monkeypatch):
  monkeypatch.setattr(library, '_is_for_absent_gpus', True)
  shape, size = (3, 20, 40, 32), 4
  kinds = {
    kind: instances.instance(
      kind, shape, size, pad_before, shared_bytes=library.shared_bytes()
    )
    for kind, pad_before in (('forward', 1), ('kernel_gradient', 1))
  }
  kinds['dx'] = instances.instance('forward', shape, size, 2)
  for instance in kinds.values():
    entries = {
      f'{one.entry} {len(one.pointers)} {len(one.integers)}'
      for one in instance.launches
    }
    add_module(driver, library.module_name(instance), *sorted(entries))
  x = jnp.full(shape, 2, jnp.bfloat16)

  def loss(x, kernel, bias):
    y = depthwise_conv(x, kernel, bias, backend='cuda')
    return jnp.sum(y, dtype=jnp.float32)

  jax.block_until_ready(
    jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
      x, jnp.ones((size, size, 32)), jnp.ones(32)
    )
  )
  lines = driver.fake_launches().decode().splitlines()
  found = [line.split(' context')[0] for line in lines]
  expected = [
    f'{one.entry} grid {" ".join(map(str, one.grid))} '
    f'block {" ".join(map(str, one.block))} shared {one.shared_bytes}'
    for name in ('dx', 'kernel_gradient')  # the output itself is not needed
    for one in kinds[name].launches
  ]
  assert sorted(found) == sorted(expected)
  (gradient,) = (line for line in lines if line.startswith('kernel_gradient'))
  numbers = ' '.join(map(str, kinds['kernel_gradient'].launches[0].integers))
  assert gradient.endswith(f'numbers {numbers}')
