"""Plots show the kernels, fields and metrics they are given."""

import io

import numpy as np
import pytest
from PIL import Image

from convmixer_jax.analysis import plots
from convmixer_jax.analysis.explanation import Explanation


def test_kernel_is_scaled_by_its_largest_weight_around_grey():
  kernels = np.zeros((3, 2, 2, 3), np.float32)
  kernels[0, 0, 1] = (2.0, -2.0, 1.0)
  kernels[1, 1, 0] = -1e-6
  grid = plots.kernel_grid(kernels)  # two columns of 24 pixels, gaps of 3
  assert grid.shape == (57, 57, 3)
  assert grid.dtype == np.uint8
  assert (grid[3:15, 15:27] == (255, 0, 191)).all()
  assert (grid[3:15, 3:15] == 128).all()
  assert (grid[15:27, 30:42] == 0).all()
  assert (grid[30:54, 3:27] == 128).all()  # nothing but zeros
  assert (grid[30:54, 30:54] == 255).all()  # there is no fourth kernel
  assert (grid[:3] == 255).all()


@pytest.mark.parametrize(
  ('count', 'shape'), [(1, (1, 1)), (5, (2, 3)), (64, (8, 8))]
)
def test_kernel_grid_is_nearly_square(count, shape):
  grid = plots.kernel_grid(np.ones((count, 12, 12, 1)))
  assert grid.shape == (*(3 + 27 * side for side in shape), 3)


def titles(figure):
  return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_each_block_has_a_panel():
  blocks = [f'block {number}' for number in range(1, 7)]
  figure = plots.kernels(np.ones((6, 9, 3, 3, 1)), 9, 'Kernels')
  assert titles(figure) == blocks
  assert 'all 9 channels' in figure.get_suptitle()
  fields = np.arange(6)[:, None, None] + np.eye(5)
  figure = plots.receptive_fields(fields)
  assert titles(figure) == blocks
  shown = figure.axes[2].images[0].get_array()
  np.testing.assert_allclose(shown**2 * 3, fields[2])


def test_title_has_the_number_of_selected_filters():
  figure = plots.kernels(np.ones((4, 2, 2, 3)), 1536, 'Filters')
  assert 'Filters: 4 of 1536 channels' in figure.get_suptitle()


def test_lines_have_the_given_values():
  (axes,) = plots.accuracy_by_size({8: 0.25, 16: 0.5}, trained=16).axes
  np.testing.assert_array_equal(
    axes.lines[0].get_xydata(), [[8, 0.25], [16, 0.5]]
  )
  rows = [
    {'epoch': 1.0, 'loss': 2.0},
    {'epoch': 2.0},
    {'epoch': 3.0, 'loss': 1},
  ]
  (axes,) = plots.compare_runs({'a': rows, 'b': rows[:1]}, 'loss').axes
  np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 2], [3, 1]])
  assert [line.get_label() for line in axes.lines] == ['a', 'b']


def test_png_has_the_size_of_the_figure():
  figure = plots.accuracy_by_size({8: 0.25}, trained=16)
  with Image.open(io.BytesIO(plots.to_png(figure))) as picture:
    assert picture.size == (720, 432)


def rows_of(**columns):
  return [
    {'epoch': float(epoch)} | dict(zip(columns, values, strict=True))
    for epoch, values in enumerate(zip(*columns.values(), strict=True), start=1)
  ]


def test_curves_are_titled_with_the_best_value_and_its_epoch():
  rows = rows_of(eval_accuracy=(0.1, 0.75, 0.75, 0.5))
  figure = plots.learning_curves(rows, 'ConvMixer-64/4 on $digits$')
  assert figure.get_suptitle() == (
    r'ConvMixer-64/4 on \$digits\$: best eval_accuracy 0.7500 after epoch 3'
  )
  rows = rows_of(train_loss=(2.0, 1.0))  # stopped before an evaluation
  assert plots.learning_curves(rows, 'a network').get_suptitle() == 'a network'


@pytest.mark.parametrize(
  ('top5', 'has_panel'), [((0.5, 1.0), False), ((0.5, 0.8), True)]
)
def test_top5_accuracy_does_not_stretch_the_axis_of_the_accuracy(
  top5, has_panel
):
  rows = rows_of(eval_accuracy=(0.1, 0.4), eval_accuracy_top5=top5)
  figure = plots.learning_curves(rows)
  assert ('top-5 accuracy' in titles(figure)) == has_panel
  (axes,) = (axes for axes in figure.axes if axes.get_title() == 'accuracy')
  assert axes.get_ylim()[1] < 0.5


def test_confusion_matrix_is_titled_with_the_accuracy():
  pairs = np.array([[0, 0, 8], [1, 1, 1], [0, 1, 991]])
  figure = plots.confusion_matrix(pairs, ['a', 'b'], 'network on set test')
  assert figure.get_suptitle() == (
    'network on set test\naccuracy 0.90 %, 1,000 images'
  )


@pytest.mark.parametrize('num_classes', [1, 2, 40])
def test_title_of_a_confusion_matrix_is_not_cut_off(num_classes):
  names = [str(k) for k in range(num_classes)]
  title = 'ConvMixer-1536/20 on imagenet2012_real ' + 'validation[:10%]+' * 9
  figure = plots.confusion_matrix(np.array([[0, 0, 8]]), names, title)
  plots.to_png(figure)
  (text,) = (t for t in figure.texts if 'ConvMixer' in t.get_text())
  box = text.get_window_extent()
  assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_titles_of_several_labels_fit_over_their_images():
  names = ', '.join(['green square', 'red circle', 'a $WIDE$ triangle'] * 4)
  image = np.zeros((8, 8, 3), np.uint8)
  figure = plots.images_of_wrong_labels(
    [image] * 7, ['red circle', *[names] * 6], [names] * 7, [0.5] * 7
  )
  plots.to_png(figure)
  first, *others = (axes.title for axes in figure.axes[:7])
  assert first.get_text().startswith(
    'loss 0.500\ntrue: red circle\npredicted: green square, red circle,'
  )
  boxes = [title.get_window_extent() for title in (first, *others)]
  for axes, box in zip(figure.axes, boxes, strict=False):
    assert box.width < axes.bbox.width + 10
    assert box.y1 < figure.bbox.height
  assert boxes[6].y1 < figure.axes[0].bbox.y0  # of the second row


def explanation(image, box, **maps):
  return Explanation(
    image=image,
    target=0,
    name='a $5 name_ of many more characters than fit',
    logit=1.0,
    probability=0.5,
    maps=maps,
    methods=dict.fromkeys(maps, 'gradcam'),
    box=box,
  )


@pytest.mark.parametrize('channels', [1, 3, 12])
def test_picture_of_class_activations_has_a_panel_for_each_map(channels):
  rng = np.random.default_rng(0)
  image = rng.random((30, 60, channels), np.float32)
  maps = {f'block{n}': rng.random((4, 4), np.float32) for n in range(7)}
  items = [explanation(image, (0.0, 15.0, 30.0, 30.0), **maps)] * 2
  figure = plots.class_activation(items)
  titles = [axes.get_title() for axes in figure.axes]
  assert sum(title.startswith('block') for title in titles) == 14
  assert sum('50.0 %' in title for title in titles) == 2
  assert plots.to_png(figure)


@pytest.mark.parametrize(
  ('channels', 'dtype', 'expected'),
  [
    (3, 'uint8', (30, 60, 90)),
    (1, 'uint8', (30, 30, 30)),
    (12, 'uint8', (30, 60, 90)),
    (12, 'uint16', (0, 128, 255)),
  ],
)
def test_explained_picture_is_drawn_as_that_of_an_error(
  channels, dtype, expected
):
  image = np.zeros((20, 20, channels), dtype)
  image[...] = 30 * np.arange(1, channels + 1)
  if dtype == 'uint16':  # whose channels are scaled to their range
    image[:10], image[10:] = 0, 1000
    image[5, :, :3] = (0, 500, 1000)
  (drawn,) = (
    plots.class_activation(
      [explanation(image, (0.0, 0.0, 20.0, 20.0), last=np.ones((2, 2)))]
    )
    .axes[0]
    .images
  )
  error = plots.misclassified_images([image], [('a', 0.1)], [('b', 0.9)])
  rgb = error.axes[0].images[0].get_array()
  assert tuple(rgb[5, 5]) == tuple(drawn.get_array()[88, 88]) == expected


def test_map_is_drawn_where_it_is_in_the_picture():
  image = np.full((40, 80, 3), 255, np.uint8)
  heat = np.zeros((4, 4), np.float32)
  heat[0, 3] = 1  # upper right of the box
  figure = plots.class_activation(
    [explanation(image, (0.0, 40.0, 40.0, 40.0), last=heat)]
  )
  overlay = figure.axes[1].images[-1].get_array()
  rows, columns = overlay.shape[:2]
  alpha = np.where(overlay[..., :3].sum(-1) == 3, 0, overlay[..., 3])
  row, column = np.unravel_index(alpha.argmax(), alpha.shape)
  assert row < rows / 4 and column > 7 / 8 * columns - 2


def test_map_without_positive_values_says_so():
  heat = -np.ones((2, 2), np.float32)
  image = np.zeros((8, 8, 3), np.uint8)
  figure = plots.class_activation(
    [explanation(image, (0.0, 0.0, 8.0, 8.0), last=heat)]
  )
  assert 'nothing speaks for it' in figure.axes[1].get_title()
