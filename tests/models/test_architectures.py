"""What every network has to pass, in a tiny form of it."""

import copy
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import onnxruntime
import pytest
import wrong_networks
from architectures import (
  ANY_SIZE,
  DATASET,
  GRIDS,
  IN_FILES,
  NAMES,
  OTHER_FIELDS,
  TINY,
  assert_identical,
  config_of,
  create,
  images_of,
  normalized,
)
from trained_models import trained_model

from convmixer_jax import config as config_lib
from convmixer_jax import export, models
from convmixer_jax.analysis import flops
from convmixer_jax.errors import UserError
from convmixer_jax.models.features import find_layers
from convmixer_jax.models.inference import make_inference
from convmixer_jax.planning import build, compilation, report
from convmixer_jax.planning.chips import Chip
from convmixer_jax.pretrained import predictions, weight_files
from convmixer_jax.pretrained.load import load
from convmixer_jax.training import initialize

# Compiling takes long: `make test` has the first network only.
ONE_QUICK = pytest.mark.parametrize(
  'name',
  [
    NAMES[0],
    *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:]),
  ],
)


def test_every_registered_network_has_a_tiny_form():
  assert TINY.keys() == models.MODELS.keys()


@ONE_QUICK
def test_logits_are_equal_with_scan_and_remat_and_close_in_bfloat16(name):
  model, variables = create(name)
  images = normalized(images_of())

  @functools.partial(jax.jit, static_argnums=0)
  def evaluate(model):
    return model.apply(variables, images, train=False, mutable='intermediates')

  logits, state = evaluate(model)
  assert logits.shape == (4, 10) and logits.dtype == jnp.float32
  assert np.ptp(logits, axis=0).min() > 0.01
  (features,) = state['intermediates']['features']
  assert features.shape == (4, 8) and features.dtype == jnp.float32
  layers = find_layers(state['intermediates'])
  grids = GRIDS.get(name, [(4, 4)] * 2)
  blocks = [f'block{n + 1}' for n in range(len(grids))]
  assert list(layers) == ['stem', *blocks, 'last']
  for block, grid in zip(blocks, grids, strict=True):
    assert layers[block].find(state['intermediates']).shape == (4, *grid, 8)
  looped = model.clone(scan=True, remat=True)
  np.testing.assert_allclose(evaluate(looped)[0], logits, atol=1e-5)
  rounded, _ = evaluate(model.clone(dtype=jnp.bfloat16))
  assert rounded.dtype == jnp.float32
  assert 0 < np.abs(rounded - logits).max() < 0.1 * np.abs(logits).max()


@ONE_QUICK
def test_every_parameter_has_a_gradient(name):
  model, variables = create(name)
  images, labels = normalized(images_of(count=16)), jnp.arange(16) % 10
  rest = {k: v for k, v in variables.items() if k != 'params'}

  def gradient(model):
    def loss(params):
      logits, _ = model.apply(
        {'params': params, **rest},
        images,
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      return -jax.nn.log_softmax(logits)[jnp.arange(16), labels].mean()

    return jax.jit(jax.grad(loss))(variables['params'])

  found = gradient(model)
  for path, leaf in jax.tree_util.tree_leaves_with_path(found):
    assert leaf.dtype == jnp.float32
    is_stacked = path[0].key in models.MODELS[name].stacked
    for part in leaf if is_stacked else [leaf]:
      assert np.any(part != 0), jax.tree_util.keystr(path)
  looped = gradient(model.clone(scan=True, remat=True))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), looped, found
  )


@ONE_QUICK
def test_gradients_of_each_image_under_vmap_are_those_of_single_images(name):
  model, variables = create(name)
  images = normalized(images_of())

  def gradient(image):
    def loss(params):
      params = variables | {'params': params}
      return jnp.ptp(model.apply(params, image[None], train=False))

    return jax.grad(loss)(variables['params'])

  mapped = jax.jit(jax.vmap(gradient))(images)
  single = jax.jit(gradient)
  for number, image in enumerate(images):
    jax.tree.map(
      lambda found, expected, number=number: np.testing.assert_allclose(
        found[number], expected, rtol=1e-4, atol=1e-5
      ),
      mapped,
      single(image),
    )


@pytest.mark.parametrize('name', IN_FILES)
def test_weights_saved_with_timm_names_load_bit_for_bit(name, tmp_path):
  model, variables = create(name)
  architecture = models.MODELS[name]
  variables = {'batch_stats': {}, **variables}
  fields = architecture.network_fields(model)
  first, second = (str(tmp_path / f'{i}.safetensors') for i in (1, 2))
  weight_files.save(trained_model(model, variables), first)
  loaded = load(first)
  assert (loaded.network, loaded.num_classes) == (name, 10)
  assert loaded.fields == fields
  assert_identical(loaded.variables, variables)
  weight_files.save(loaded, second)
  assert_identical(load(second).variables, variables)
  tensors = architecture.state_dict.to_timm(variables)
  assert all(map(architecture.state_dict.matches, tensors))
  assert weight_files.infer_architecture(tensors, None, None) == name


@pytest.mark.parametrize(
  ('name', 'size'),
  [
    *((name, 8) for name in NAMES if name != 'distilled_vit'),
    pytest.param('distilled_vit', 8, marks=pytest.mark.slow),
    *(pytest.param(n, 12, marks=pytest.mark.slow) for n in ANY_SIZE),
  ],
)
def test_fast_inference_and_exports_equal_the_network(name, size):
  model, variables = create(name)
  images = images_of(size)
  expected = model.apply(variables, normalized(images), train=False)
  dataset = copy.deepcopy(DATASET)
  dataset.image_size = size
  config = ml_collections.ConfigDict({'dataset': dataset})
  logits = jax.jit(
    lambda images: make_inference(model, variables, dataset)(images)
  )(images)
  np.testing.assert_allclose(logits, expected, atol=2e-5)
  infer = predictions._make_inference(variables, model=model, config=config)
  np.testing.assert_allclose(jax.jit(infer)(images), expected, atol=2e-5)

  content = export.to_stablehlo(model, variables, dataset)
  outputs = jax.export.deserialize(bytearray(content)).call(images)
  np.testing.assert_allclose(outputs, expected, atol=2e-5)
  if models.MODELS[name].to_onnx:
    content = export.to_onnx(model, variables, dataset)
    session = onnxruntime.InferenceSession(content)
    (outputs,) = session.run(None, {'images': images})
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('name', IN_FILES)
def test_weights_of_another_network_are_refused_by_name(name, tmp_path):
  model, variables = create(name)
  path = str(tmp_path / 'x.safetensors')
  weight_files.save(trained_model(model, variables), path)
  other = next(n for n in IN_FILES if n != name)
  config = config_of(other)
  config.init_from = path
  model = models.create_model(config.model, 10)
  with pytest.raises(
    UserError,
    match=f"config.model.name = '{other}' .there '{name}'.; give "
    f'--config.model.name={name}$',
  ):
    initialize.load_pretrained(config, model, '0123456789')


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_plan_counts_flops_and_compiles_the_step(name, monkeypatch):
  compiled, compile_step = [], compilation.compile_step

  def compile_and_keep(*args, **kwargs):
    compiled.append(compile_step(*args, **kwargs))
    return compiled[-1]

  monkeypatch.setattr(compilation, 'compile_step', compile_and_keep)
  config = config_of(name)
  matrix, depthwise = report.count_by_unit(config, 64, 10)
  assert matrix > 0 and (depthwise > 0) == (name == 'convmixer')
  chip = Chip('a CPU', 1e12, 1e11, 2**40)
  plan = build.make_plan(
    config,
    chip,
    jax.devices()[:1],
    num_examples=1442,
    num_classes=10,
    search=False,
  )
  model = models.create_model(config.model, 10)
  parameters = flops.count_parameters(model, 8)
  (step,) = compiled
  assert step.memory['parameters'] == 4 * parameters
  (column,) = plan['steps']
  assert column['matrix_flops'] == matrix
  table = report.table(plan | {'config': 'C', 'topology': 'T'})
  assert 'batch, images' in table
  assert ('depthwise' in table.lower()) == (depthwise > 0)


@pytest.mark.parametrize('name', NAMES)
def test_config_refuses_fields_of_another_network(name):
  config = models.model_config(name)
  assert set(config) == {'name', *models.MODELS[name].fields}
  models.validate(config)
  models.create_model(config, 10)
  others = {k for other in models.MODELS.values() for k in other.fields}
  foreign = sorted(others - models.MODELS[name].fields.keys())
  if not foreign:
    pytest.skip('it has the fields of all networks')
  key = foreign[0]
  config[key] = 1
  first, second, *_ = models.MODELS[name].fields
  message = f"{key} is not a field of '{name}', which has {first}, {second}, "
  for check in (models.validate, lambda c: models.create_model(c, 10)):
    with pytest.raises(UserError, match=message):
      check(config)


@pytest.mark.parametrize('name', NAMES)
def test_run_may_resume_with_other_scan_and_remat_but_not_other_fields(name):
  old = models.model_config(name)
  other = OTHER_FIELDS.get(name, {'width': 16})
  new = models.model_config(name, remat=True, scan=True, **other)
  flat = [
    {f'model.{key}': value for key, value in config.items()}
    for config in (old, new)
  ]
  changed = config_lib.changed_keys(*flat, models.free_keys(new))
  assert changed == [f'model.{key}' for key in other]


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (
      'densenet',
      f"'densenet' is unknown; there are {', '.join(NAMES)}, and MODULE:ATT",
    ),
    ('no_module_of_this_name:X', "there is no module 'no_module_of_thi"),
    ('convmixer_jax.models:MODELS', 'is a dict, not an Architecture; see docs'),
    ('convmixer_jax.models:NONE', "no 'NONE'; its Architectures: CONVMIXER, V"),
  ],
)
def test_unknown_network_is_refused(name, message):
  with pytest.raises(UserError, match=message):
    models.find_architecture(name)


def test_weights_file_that_names_a_module_does_not_import_it(tmp_path):
  model, variables = create('vit')
  path = str(tmp_path / 'x.safetensors')
  weight_files.save(trained_model(model, variables), path)
  tensors, metadata = weight_files._read_safetensors(path)
  assert metadata['network'] == 'vit'
  found = weight_files.infer_architecture(tensors, 'this_would_run:X', None)
  assert found == 'vit'


def test_network_that_fails_in_evaluation_mode_is_reported():
  network = wrong_networks.RAISES
  model = network.module()
  message = r'Raises fails for images of 8 x 8 \(RuntimeError: no such\); ch'
  with pytest.raises(UserError, match=message):
    network.check_image_size(model, {}, 8)
