"""Stands in for `train`: writes what a run leaves, without training.

    python fake_train.py CONFIG WORKDIR BEHAVIOUR

A behaviour is 'learn'; 'fail' or 'diverge', which end with an error; 'slow',
which saves at SIGTERM and ends with status 75; 'die', which is killed once.
"""

import csv
import json
import os
import pathlib
import signal
import sys
import time

NUM_ROWS = 4


def write(workdir, done, config):
  """Writes a metrics.csv and a checkpoint, `done` rows of the run."""
  with (workdir / 'metrics.csv').open('w') as file:
    rows = csv.writer(file)
    rows.writerow(['step', 'epoch', 'eval_accuracy', 'images_per_sec'])
    for number in range(1, done + 1):
      accuracy = number / 8 + config['learning_rate'] + config['seed'] / 100
      epoch = number * config['num_epochs'] / NUM_ROWS
      rows.writerow([number, epoch, accuracy, 100])
  (workdir / 'checkpoints' / str(done)).mkdir(parents=True, exist_ok=True)


def main():
  config_file, workdir, behaviour = sys.argv[1:]
  text = pathlib.Path(config_file).read_text()
  config, workdir = json.loads(text), pathlib.Path(workdir)
  is_new = not workdir.exists()
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'config.json').write_text(text)
  print('cores', len(os.sched_getaffinity(0)), flush=True)
  if behaviour == 'fail':
    sys.exit('error: the disk is full')
  if behaviour == 'diverge':
    sys.exit('error: the loss or its gradient was not finite in 10 steps')
  if behaviour == 'die' and is_new:
    os.kill(os.getpid(), signal.SIGKILL)
  if behaviour == 'slow':

    def save(number, frame):
      del number, frame
      write(workdir, 2, config)
      sys.exit(75)

    signal.signal(signal.SIGTERM, save)
    (workdir / 'started').touch()
    time.sleep(60)
  write(workdir, NUM_ROWS, config)


if __name__ == '__main__':
  main()
