"""What the time of a step on a GPU is divided among."""

import jax

from convmixer_jax.benchmarks import gpu_profile
from scripts import profile_gpu_step

# Two steps; the host's plane and the line of operations do not count.
PROFILE = """
planes {
  name: "/device:GPU:0 (H100)"
  lines {
    name: "Stream #13(Compute)"
    events { metadata_id: 1 duration_ps: 2000000 }
    events { metadata_id: 2 duration_ps: 1000000 }
    events { metadata_id: 1 duration_ps: 4000000 }
  }
  lines {
    name: "XLA Ops"
    events { metadata_id: 1 duration_ps: 9000000 }
  }
  event_metadata { key: 1 value { id: 1 name: "correlate" } }
  event_metadata { key: 2 value { id: 2 name: "gemm_fusion_dot_1" } }
}
planes {
  name: "/host:CPU"
  lines {
    name: "Stream of the host"
    events { metadata_id: 1 duration_ps: 9000000 }
  }
  event_metadata { key: 1 value { id: 1 name: "Execute" } }
}
"""


def test_kernels_of_a_stream_are_added_up():
  data = jax.profiler.ProfileData.from_text_proto(PROFILE)
  kernels = gpu_profile.add_up(gpu_profile.events_of(data), 2)
  assert kernels == [('correlate', 1.0, 3.0), ('gemm_fusion_dot_1', 0.5, 0.5)]
  assert gpu_profile.to_csv(kernels) == (
    'kernel,launches,microseconds,microseconds_each\n'
    'correlate,1,3.0,3.0\n'
    'gemm_fusion_dot_1,0.5,0.5,1.0\n'
  )


def test_script_times_a_step_where_there_is_no_gpu(tmp_path, capsys):
  output = tmp_path / 'profile.csv'
  profile_gpu_step.main(
    [
      *('--network=16/1, kernel 5', '--kind=forward', '--steps=1'),
      f'--output={output}',
    ]
  )
  printed = capsys.readouterr().out
  assert printed.startswith('16/1, kernel 5, project, forward, on cpu: ')
  assert '\n0 kernels, 0.000 ms\n' in printed
  assert len(output.read_text().splitlines()) == 1
