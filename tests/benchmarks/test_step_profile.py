"""What the time of a step is divided among."""

import types

import pytest

from convmixer_jax.benchmarks import step_profile
from convmixer_jax.kernels.cpu import library

PROGRAM = """
ENTRY %main (x: f32[2,3], y: f32[3,4]) -> f32[2,4] {
  %x = f32[2,3]{1,0} parameter(0)
  %y = f32[3,4]{1,0} parameter(1)
  %dot.1 = f32[2,4]{1,0} dot(%x, %y), lhs_contracting_dims={1}
  %call.7 = (f32[2,4]{1,0}, bf16[4]{0}) custom-call(%dot.1, %y), \
custom_call_target="convmixer_correlate_5", metadata={op_name="jit(f)/conv"}
  %call.8 = f32[2,4]{1,0} custom-call(%dot.1), \
custom_call_target="convmixer_affine_residual"
  ROOT %add.2 = f32[2,4]{1,0} fusion(%dot.1), kind=kLoop, calls=%fused, \
metadata={op_name="jit(train_step)/optimizer/add"}
}
""".replace('\\\n', '')


def test_operations_have_categories_and_bytes():
  found = step_profile.find_operations(PROGRAM)
  assert found['dot.1'] == ('products', 4 * (6 + 12 + 8))
  assert found['call.7'] == ('depthwise', 4 * (8 + 12 + 8) + 2 * 4)
  assert found['call.8'].category == 'norms'
  assert found['add.2'] == ('optimizer', 4 * 16)
  assert found['x'].category == 'rest'


def test_every_kernel_for_cpus_has_a_category():
  functions = {name for names in library.FUNCTIONS.values() for name in names}
  assert functions == set(step_profile.OF_KERNELS)


def test_time_of_operations_at_once_is_divided():
  times = step_profile.divide_time(
    [(0, 10, 'products'), (2, 8, 'products'), (5, 20, 'norms')]
  )
  assert times['products'] == pytest.approx(5 + 2.5)
  assert times['norms'] == pytest.approx(2.5 + 10)
  assert times['rest'] == 0


def thread(*events):
  """Returns a thread's events of begin, length, name and operation."""
  return [
    types.SimpleNamespace(
      start_ns=start,
      duration_ns=length,
      name=name,
      stats=[('hlo_op', operation)] if operation else [],
    )
    for start, length, name, operation in events
  ]


def read(*threads):
  found, ends = {}, {}
  for events in threads:
    step_profile._read_thread(events, found, ends)
  return sorted(step_profile._events_to_their_ends(found, ends))


def test_product_ends_with_the_event_of_its_end():
  events = read(
    thread((0, 1, 'dot', 'dot'), (3, 1, 'add', 'add'), (10, 1, 'dot', 'dot')),
    thread((15, 0, 'end: dot', None), (6, 0, 'end: dot', None)),
  )
  assert events == [(0, 6, 'dot'), (3, 4, 'add'), (10, 15, 'dot')]


@pytest.mark.parametrize('follow', ['ThunkExecutor::Execute', 'other event'])
def test_what_follows_within_the_last_thread_is_not_part_of_an_operation(
  follow,
):
  start = 'ThreadpoolListener::StartRegion'
  events = read(
    thread((0, 5, 'add', 'add')),
    thread(
      (1, 0, start, None),
      (2, 1, follow, None),  # before the addition, so it is not what follows
      (3, 0, start, None),
      (7, 20, follow, None),
      (8, 18, 'dot', 'dot'),
      (26, 0, 'end: dot', None),
      (27, 0, 'end: add', None),
    ),
  )
  begin_of_next = 7 if follow == 'ThunkExecutor::Execute' else 8
  assert events == [(0, begin_of_next, 'add'), (8, 26, 'dot')]


def test_table_has_rates():
  found = {
    'products': {'seconds': 0.3, 'bytes': 1.0},
    'norms': {'seconds': 0.1, 'bytes': 2e9},
  }
  title, products, norms = step_profile.table(
    'train', found, {'products': 6e10}
  )
  assert title.startswith('train')
  assert products.split() == ['products', '300.0', '75%', '200']
  assert norms.split() == ['norms', '100.0', '25%', '20.0']
