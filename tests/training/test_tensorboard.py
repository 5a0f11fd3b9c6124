"""What TensorBoard's own reader finds in the files of a run."""

import json
import threading

import jax
import numpy as np
import pytest
from etils import epath
from tensorboard.backend.event_processing import (
  event_accumulator,
  plugin_event_multiplexer,
)
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboardX import record_writer

from convmixer_jax import files
from convmixer_jax.checkpoints.metrics_table import read_table
from convmixer_jax.training import tensorboard
from convmixer_jax.training.tensorboard import TensorBoardWriter


def read(directory):
  return event_accumulator.EventAccumulator(str(directory)).Reload()


@pytest.fixture(scope='module')
def events(trained_run):
  return read(trained_run)


@pytest.mark.parametrize(
  ('name', 'place'),
  [
    ('train_loss', ('train', 'metrics/loss')),
    ('eval_loss', ('eval', 'metrics/loss')),  # the same chart
    ('eval_accuracy_top5', ('eval', 'metrics/accuracy_top5')),
    ('learning_rate', ('train', 'optimizer/learning_rate')),
    ('images_per_sec', ('train', 'speed/images_per_sec')),
  ],
)
def test_place_of_a_scalar(name, place):
  assert tensorboard.place(name) == place


@pytest.mark.slow
def test_scalars_equal_metrics_csv(trained_run):
  rows = read_table(epath.Path(trained_run) / 'metrics.csv')
  expected = {
    (*tensorboard.place(name), step): np.float32(value)
    for step, row in rows.items()
    for name, value in row.items()
    if name not in ('step', 'epoch')
  }
  found = {
    (part, tag, event.step): np.float32(event.value)
    for part in ('train', 'eval')
    for events in [read(trained_run / part)]
    for tag in events.Tags()['scalars']
    for event in events.Scalars(tag)
  }
  assert found == expected


def test_config_is_written_as_text(events, trained_run):
  (tag,) = (tag for tag in events.Tags()['tensors'] if tag.startswith('config'))
  (event,) = events.Tensors(tag)
  (text,) = event.tensor_proto.string_val
  # Four spaces make it code in Markdown.
  assert all(line.startswith(b'    ') for line in text.splitlines())
  written = json.loads((trained_run / 'config.json').read_text())
  assert json.loads(text) == written


def test_config_is_written_as_hyperparameters(trained_run):
  multiplexer = plugin_event_multiplexer.EventMultiplexer()
  multiplexer.AddRun(str(trained_run)).Reload()
  found = {}
  for tag, content in multiplexer.PluginRunToTagToContent('hparams')[
    str(trained_run)
  ].items():
    found[tag] = plugin_data_pb2.HParamsPluginData.FromString(content)
  assert found.keys() == {
    '_hparams_/experiment',
    '_hparams_/session_start_info',
    '_hparams_/session_end_info',
  }
  values = found['_hparams_/session_start_info'].session_start_info.hparams
  assert values['learning_rate'].number_value == 0.01
  assert values['model.width'].number_value == 16
  assert values['model.activation'].string_value == 'gelu'
  assert values['decay_all'].WhichOneof('kind') == 'bool_value'
  assert values['augment.crop_scale'].string_value == '(0.6, 1.0)'
  experiment = found['_hparams_/experiment'].experiment
  names = [info.name for info in experiment.hparam_infos]
  assert sorted(names) == sorted(values)
  metrics = experiment.metric_infos
  assert {(info.name.group, info.name.tag) for info in metrics} == {
    ('eval', 'metrics/loss'),
    ('eval', 'metrics/accuracy'),
    ('eval', 'metrics/accuracy_top5'),
  }


def test_resumed_run_hides_later_events_of_the_earlier_start(tmp_path):
  for first_step, steps in [(0, (1, 2, 3)), (2, (3, 4))]:
    writer = TensorBoardWriter(epath.Path(tmp_path), first_step)
    for step in steps:
      writer.scalars(step, {'train_loss': first_step + step / 10})
    writer.close()
  found = read(tmp_path / 'train').Scalars('metrics/loss')
  assert [event.step for event in found] == [1, 2, 3, 4]
  values = [event.value for event in found]
  np.testing.assert_allclose(values, [0.1, 0.2, 2.3, 2.4], rtol=1e-6)


def test_image_is_stored_losslessly(tmp_path):
  shape = (5, 7, 3)
  image = np.asarray(jax.random.bits(jax.random.key(0), shape, 'uint8'))
  writer = TensorBoardWriter(epath.Path(tmp_path), 0)
  writer.images(3, {'weights/patch_embedding': image})
  writer.close()
  import cv2

  (event,) = read(tmp_path).Images('weights/patch_embedding')
  file = np.frombuffer(event.encoded_image_string, np.uint8)
  assert event.step == 3
  found = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)
  np.testing.assert_array_equal(found, image)


def test_events_in_a_bucket_continue_in_another_file(tmp_path, monkeypatch):
  monkeypatch.setattr(tensorboard, '_BUCKET_FILE_BYTES', 100)
  file = tensorboard._BucketFile(str(tmp_path / 'events.out.tfevents.1.host'))
  records = [bytes([number]) * 60 for number in range(5)]
  for record in records:
    file.write(record)
    file.flush()
  contents = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
  assert contents == [b''.join(records[i : i + 2]) for i in (0, 2, 4)]


def test_events_are_kept_over_failed_uploads(tmp_path, monkeypatch):
  def open_file(path):
    return tensorboard._BucketFile(path.removeprefix('run:'))

  monkeypatch.setattr(record_writer, 'open_file', open_file)
  write = files.write

  def fail(path, content):
    raise OSError('out of reach')

  monkeypatch.setattr(files, 'write', fail)
  writer = TensorBoardWriter(epath.Path(tmp_path), 0)
  for step in range(1, 31):  # more than tensorboardX's queue holds
    writer.scalars(step, {'train_loss': step})
  monkeypatch.setattr(files, 'write', write)
  writer.close()
  found = [
    event.step for event in read(tmp_path / 'train').Scalars('metrics/loss')
  ]
  assert found == list(range(1, 31))


def test_full_disk_is_reported_once_and_does_not_stop_the_run(
  tmp_path, monkeypatch, caplog
):
  def open_full(path, mode):
    return open('/dev/full', mode)

  monkeypatch.setattr(tensorboard, 'open', open_full, raising=False)
  writer = TensorBoardWriter(epath.Path(tmp_path), 0)

  def write():
    for step in range(100):  # more than tensorboardX's queue holds
      writer.scalars(step, {'train_loss': 1.0})
    writer.close()

  thread = threading.Thread(target=write, daemon=True)
  thread.start()
  thread.join(120)
  assert not thread.is_alive()
  # For each of the three files once.
  assert len(caplog.messages) == 3
  for message in caplog.messages:
    assert 'No space left on device' in message
