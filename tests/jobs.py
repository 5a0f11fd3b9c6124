"""Runs of `train.py` in several processes, each started in a moment.

What each has to import, nearly all of the time of a start, is imported once.
"""

import importlib.metadata
import socket

import jax
import torture

FLAGS = [
  '--config=configs/digits.py',
  '--config.batch_size=64',
  '--config.model.width=128',  # wide enough for fsdp to split kernels
  '--config.model.depth=1',
  '--config.model.kernel_size=3',
  '--config.model.depthwise=shift',
  '--config.mixup.mixup_alpha=0.5',
  '--config.mixup.group_size=8',
  '--config.erasing.probability=0.25',
  '--config.learning_rate=0.001',
  '--config.log_every_steps=1',
  '--config.input.num_threads=2',
  '--config.input.num_workers=0',
]


def train(arguments, log, num_devices, versions):
  """Is `python train.py ...` where packages have other versions."""
  jax.config.update('jax_num_cpu_devices', num_devices)
  find = importlib.metadata.version
  importlib.metadata.version = lambda name: versions.get(name) or find(name)
  torture.train(arguments, log)


class Job:
  """The processes of one run."""

  def __init__(
    self,
    context,
    workdir,
    flags=(),
    of_process=((),),
    num_devices=1,
    versions=(),
  ):
    """Starts them.

    Args:
      context: from `torture.prepare`.
      workdir: of the run; the outputs go beside it.
      flags: of all processes, besides `FLAGS`.
      of_process: flags of each.
      num_devices: of each.
      versions: of packages, as the last process is to find them.
    """
    joined = []
    if len(of_process) > 1:
      with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
      joined = [
        f'--coordinator_address=localhost:{port}',
        f'--num_processes={len(of_process)}',
      ]
    self.processes, self._logs = [], []
    for i, own in enumerate(of_process):
      log = workdir.with_name(f'{workdir.name}.{i}.txt')
      number = [f'--process_id={i}'] if joined else []
      arguments = [f'--workdir={workdir}', *FLAGS, *flags, *own]
      others = dict(versions) if i == len(of_process) - 1 else {}
      process = context.Process(
        target=train,
        args=(arguments + joined + number, str(log), num_devices, others),
      )
      process.start()
      self.processes.append(process)
      self._logs.append(log)

  def wait(self, seconds=300):
    """Returns the exit statuses and outputs, once they have ended."""
    for process in self.processes:
      process.join(seconds)
    return [process.exitcode for process in self.processes], self.outputs()

  def outputs(self):
    return [log.read_text() if log.exists() else '' for log in self._logs]
