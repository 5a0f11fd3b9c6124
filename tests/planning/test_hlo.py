"""Parsing of compiled programs, and what they move."""

import re

import jax
import numpy as np

from convmixer_jax.planning import (
  hlo,
  hlo_costs,
)

# In XLA:TPU's manner: no trip counts, VMEM as S(1), a loop that reads slices.
TPU_PROGRAM = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%read_a_slice (all: bf16[4,8,16], place: s32[]) -> bf16[8,16] {
  %all = bf16[4,8,16]{2,1,0:T(8,128)(2,1)} parameter(0)
  %place = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %one = bf16[1,8,16]{2,1,0:T(8,128)} dynamic-slice(%all, %place, %zero, %zero)
  ROOT %flat = bf16[8,16]{1,0:T(8,128)} bitcast(%one)
}

%scatter (gradient: f32[128]) -> f32[32] {
  %gradient = f32[128]{0} parameter(0)
  %reduced = f32[128]{0} all-reduce(%gradient), to_apply=%add
  %start = s32[] constant(0)
  ROOT %own = f32[32]{0} dynamic-slice(%reduced, %start)
}

%body (carry: (s32[], bf16[4,8,16])) -> (s32[], bf16[4,8,16]) {
  %carry = (s32[]{:T(128)}, /*index=1*/bf16[4,8,16]{2,1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %stack = bf16[4,8,16]{2,1,0} get-tuple-element(%carry), index=1
  %slice = bf16[8,16]{1,0:S(1)} fusion(%stack, %turn), kind=kLoop, \
calls=%read_a_slice
  %gathered = bf16[16,16]{1,0:S(1)} all-gather(%slice), dimensions={0}
  ROOT %next = (s32[]{:T(128)}, bf16[4,8,16]{2,1,0}) tuple(%turn, %stack)
}

%condition (carry: (s32[], bf16[4,8,16])) -> pred[] {
  %carry = (s32[]{:T(128)}, bf16[4,8,16]{2,1,0}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%carry), index=0
  %length = s32[]{:T(128)} constant(4)
  ROOT %less = pred[]{:T(512)} compare(%turn, %length), direction=LT
}

ENTRY %main (stack: bf16[4,8,16], gradient: f32[128]) -> f32[32] {
  %stack = bf16[4,8,16]{2,1,0} parameter(0)
  %gradient = f32[128]{0} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %start = (f32[128]{0:S(1)}, f32[128]{0}, u32[]{:S(2)}) copy-start(%gradient)
  %near = f32[128]{0:S(1)} copy-done(%start)
  %initial = (s32[], bf16[4,8,16]{2,1,0}) tuple(%zero, %stack)
  %loop = (s32[], bf16[4,8,16]{2,1,0}) while(%initial), \
condition=%condition, body=%body
  ROOT %result = f32[32]{0} fusion(%near), kind=kCustom, \
calls=%all-reduce-scatter
}
""".replace('%scatter', '%all-reduce-scatter')


def test_program_for_tpu_is_parsed():
  module = hlo.parse(TPU_PROGRAM)
  assert module.executions['body'] == 4
  assert module.fused == {'read_a_slice', 'all-reduce-scatter'}
  assert hlo_costs.collectives(module) == [
    hlo_costs.Collective('all-gather', 'bf16', 4, 4 * 16 * 16 * 2),
    hlo_costs.Collective('reduce-scatter', 'f32', 1, 128 * 4),
  ]
  # The copy to VMEM; four slices in the loop, their places and the comparison
  # of the counter; the result.
  expected = 128 * 4 + 4 * (8 * 16 * 2 + 4 + 4 + 4 + 1) + 32 * 4
  assert hlo_costs.memory_traffic(module) == expected


def test_gather_shared_by_several_fusions_counts_once():
  line = (
    '  %gathered = bf16[16,16]{1,0:S(1)} all-gather(%slice), channel_id=2, '
    'dimensions={0}, frontend_attributes={chain_id="0"}'
  )
  shared = re.sub(
    '  %gathered = .*',
    f'{line}\n{line.replace("gathered", "gathered.1")}',
    TPU_PROGRAM,
  )
  assert shared.count('all-gather(') == 2
  assert hlo_costs.collectives(hlo.parse(shared)) == hlo_costs.collectives(
    hlo.parse(TPU_PROGRAM)
  )


def test_loop_of_unknown_length_counts_once():
  unclear = TPU_PROGRAM.replace('direction=LT', 'direction=NE')
  assert hlo.parse(unclear).executions['body'] == 1


def test_traffic_of_a_program_without_loops_equals_xlas_count():
  def step(x, kernel):
    return (jax.nn.relu(x @ kernel) @ kernel.T).sum(0)

  compiled = jax.jit(step).lower(np.ones((64, 32)), np.ones((32, 48))).compile()
  traffic = hlo_costs.memory_traffic(hlo.parse(compiled.as_text()))
  counted = compiled.cost_analysis()['bytes accessed']
  np.testing.assert_allclose(traffic, counted, rtol=0.02)


def test_scan_counts_once_per_iteration():
  def step(x):
    return jax.lax.scan(lambda x, _: (jax.numpy.sin(x @ x), None), x, length=7)

  compiled = jax.jit(step).lower(np.ones((32, 32), np.float32)).compile()
  module = hlo.parse(compiled.as_text())
  assert 7 in module.executions.values()
  assert hlo_costs.memory_traffic(module) >= 7 * 2 * 32 * 32 * 4
