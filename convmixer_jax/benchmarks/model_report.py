"""The table of a comparison of speed (`model.py`), as text."""

from typing import Any

from convmixer_jax.benchmarks.benchmark_cases import BenchmarkCase, all_cases
from convmixer_jax.benchmarks.step_profile import table as profile_table

KINDS = ('forward', 'train')  # of steps


def table(result: dict[str, Any]) -> str:
  """Formats a result of `model.run` as text."""
  machine = result['machine']
  lines = [
    _cpu(machine, result['cases']),
    f'{machine["cores"]} cores, float32, matrix products at '
    f'{result["matmul"]:.0f} GFLOP/s',
    'time/ours: median of the rounds (lowest to highest); above 1, this '
    'project is faster',
  ]
  for name, measured in result['cases'].items():
    lines += ['', _title(name, BenchmarkCase(**measured['case']))]
    frameworks = measured['frameworks']
    for kind in KINDS:
      lines.append(
        f'{kind:17s} images/s GFLOP/s of matmul  peak MiB compile s  time/ours'
      )
      lines += [
        _row(framework, values, kind, result['matmul'])
        for framework, values in frameworks.items()
      ]
    lines += _compare_with_pytorch(frameworks)
    for kind, found in measured['profile'].items():
      flops = measured['flops_by_category'][kind]
      lines += profile_table(kind, found, flops)
  return '\n'.join(lines)


def _cpu(machine, cases):
  """Says which CPU it is, and for which vectors our kernels were compiled."""
  numbers = ' '.join(
    f'{key} {machine[key]}'
    for key in ('family', 'model', 'stepping')
    if key in machine
  )
  bits = {
    values['frameworks']['this project']['about'].get('kernel_vector_bits')
    for values in cases.values()
  } - {None}
  parts = machine['processor'], numbers
  vectors = [f'kernels for vectors of {width} bits' for width in sorted(bits)]
  return ', '.join(part for part in (*parts, *vectors) if part)


def _title(name, case):
  full, depth = all_cases().get(name, case).fields, case.fields.get('depth')
  reduced = ''
  if full.get('depth') != depth:
    reduced = f' with {depth} of its blocks'
  fields = ', '.join(
    f'{key.removesuffix("_size")} {value}'
    for key, value in case.fields.items()
    if key not in ('width', 'depth')
  )
  return (
    f'{name}{reduced}, {fields}, {case.batch_size} images of '
    f'{case.image_size} x {case.image_size}'
  )


def _row(name, values, kind, matmul):
  if 'missing' in values:
    return f'  {name:16s}{values["missing"]}'
  own = values[kind]
  median, low, high = own['ratio']
  ratio = f'{median:5.2f} ({low:.2f} to {high:.2f})'
  return (
    f'  {name:16s}{own["images_per_sec"]:8.1f}{own["gflops"]:8.0f}'
    f'{own["gflops"] / matmul:10.0%}{own["peak"]:10.0f}{own["compile"]:10.1f}'
    f'  {ratio if name != "this project" else ""}'
  ).rstrip()


def _compare_with_pytorch(frameworks):
  """Compares with the faster of PyTorch's two, if they were measured."""
  measured = [
    values
    for name, values in frameworks.items()
    if name.startswith('PyTorch') and 'missing' not in values
  ]
  if not measured:
    return []
  best = {
    kind: min(values[kind]['ratio'][0] for values in measured) for kind in KINDS
  }
  return [
    "the faster of PyTorch's two, time/ours: "
    + ', '.join(f'{kind} {ratio:.2f}' for kind, ratio in best.items())
  ]
