"""Which GPU kernel computes a depthwise convolution, and how it is launched.

This is the interface between the device code in csrc/ and whatever compiles and
launches it. It only computes: it imports neither JAX nor a CUDA library.
"""

from typing import NamedTuple

from convmixer_jax.kernels.gpu import shared_memory
from convmixer_jax.kernels.gpu.plan import CHANNELS, make_plan

KINDS = ('forward', 'kernel_gradient')
SIZES = range(3, 10)
ACTIVATION_NUMBERS = {None: 0, 'relu': 1, 'gelu': 2}
# Sources in csrc/, by kind. They include the .cuh files there by their names.
SOURCES = {
  'forward': 'correlate.cu',
  'kernel_gradient': 'kernel_gradient.cu',
}
# The only entry of a source that is not of its kind.
_SUM_ENTRY = 'sum_partial_sums'

_THREADS = 512

# Offsets within an image, a kernel and its sums are 32-bit.
_MAX_IMAGE_ELEMENTS = 2**30
_MAX_SUMS = 2**31 - 1
_MAX_GRID_Y = 65535


class Epilogue(NamedTuple):
  """What the forward kernel computes after the convolution, or before it.

  With y = correlate(x, kernel) + bias, a = activation(y):

  sums: the result is y, and 'sums' `[2, C]`, float32, is the sum over images,
    rows and columns of a and of a^2, for a computed of y as stored.
  scale: the result is a * factor; else, and without sums, it is a.
  residual: the array 'residual' of the result's shape is added. As between two
    operations, the result is rounded to bfloat16 before and after.
  gradient: x is the gradient of `BatchNorm(activation(z)) + residual`, and what
    is convolved is that of z: `activation'(z) (p x + q activation(z) + r)`,
    with p, q and r in 'coefficients' `[3, C]`, float32. It is rounded to
    bfloat16, and also a result, 'dy'. x is then added, like a residual.
  """

  activation: str | None = None
  sums: bool = False
  scale: bool = False
  residual: bool = False
  gradient: bool = False

  @property
  def adds(self) -> bool:
    """Whether an array is added to the convolution's result."""
    return self.residual or self.gradient


class Launch(NamedTuple):
  """One kernel of an instance.

  Attributes:
    entry: its name in the compiled module.
    grid: thread blocks in x, y and z.
    block: threads in x, y and z.
    shared_bytes: dynamic shared memory; over 48 KiB, so it has to be permitted
      by CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
    pointers: the first arguments: names of device buffers, see `instance`.
    integers: the last arguments, by value, int32.
  """

  entry: str
  grid: tuple[int, int, int]
  block: tuple[int, int, int]
  shared_bytes: int
  pointers: tuple[str, ...]
  integers: tuple[int, ...]


class Instance(NamedTuple):
  """A module to compile, and the launches that compute the operation.

  Attributes:
    source: file in csrc/.
    defines: macros, in a fixed order. Equal source and defines: the same
      module.
    launches: in this order, on one stream.
    workspace_bytes: size of the buffer 'workspace', aligned to 16 bytes. It
      need not be initialised. 0: no launch uses it.
  """

  source: str
  defines: tuple[tuple[str, int], ...]
  launches: tuple[Launch, ...]
  workspace_bytes: int


def supported(
  kind: str,
  shape: tuple[int, ...],
  size: int,
  pad_before: int,
  epilogue: Epilogue = Epilogue(),  # noqa: B008
  dtype: str = 'bfloat16',
) -> str | None:
  """Returns None if there is an instance, or why XLA has to compute instead.

  The reason is one line that names what is not supported.

  Args:
    kind: one of `KINDS`.
    shape: of the images, `[N, H, W, C]`.
    size: side of the depthwise kernel.
    pad_before: zeros before the first row and column; the others follow.
    epilogue: of the forward kernel.
    dtype: name of the dtype of the images.

  Raises:
    ValueError: an unknown kind, activation, or an impossible epilogue.
  """
  _check(kind, shape, size, pad_before, epilogue)
  n, h, w, c = shape
  if dtype != 'bfloat16':
    return f'images are {dtype}, and the kernels are for bfloat16'
  if size not in SIZES:
    return (
      f'the depthwise kernel is {size} x {size}, and the kernels are for '
      f'{SIZES[0]} x {SIZES[0]} to {SIZES[-1]} x {SIZES[-1]}'
    )
  if pad_before not in ((size - 1) // 2, size // 2):
    return f'padding of {pad_before} before a kernel of size {size}'
  if c % CHANNELS:
    return f'{c} channels are not a multiple of {CHANNELS}'
  if min(shape) < 1:
    return f'images of shape {list(shape)} are empty'
  if h * w * c > _MAX_IMAGE_ELEMENTS:
    return f'an image of {h} x {w} x {c} has over 2^30 elements'
  if (size**2 + 1) * c > _MAX_SUMS:
    return f'a kernel of {size} x {size} x {c} has over 2^31 elements'
  if make_plan(shape, size).groups > _MAX_GRID_Y:
    return f'a batch of {n} images of {h} x {w} is too large for one launch'
  return None


def instance(
  kind: str,
  shape: tuple[int, ...],
  size: int,
  pad_before: int,
  epilogue: Epilogue = Epilogue(),  # noqa: B008
  bands: int | None = None,
  shared_bytes: int = shared_memory.LEAST,
) -> Instance:
  """Returns the kernel for an operation, and how to launch it.

  Buffers are dense, aligned to 16 bytes, and bfloat16 unless noted.

  'forward' computes 'y' `[N, H, W, C]` of 'x' `[N, H, W, C]`, 'kernel'
  `[k, k, C]` and 'bias' `[C]`, which may be a null pointer, and, as the
  epilogue demands, of 'factor' `[C]` (float32) and 'residual' `[N, H, W, C]`,
  which may be the same buffer as 'x', but not as 'y'; and 'sums' `[2, C]`,
  float32; or of 'z' `[N, H, W, C]` and 'coefficients', and 'dy' `[N, H, W, C]`.
  The gradient of x is the forward kernel of dy, the kernel rotated by 180
  degrees, no bias, and pad_before = k - 1 - pad_before.

  'kernel_gradient' computes 'sums' `[k * k + 1, C]`, float32, of 'x' and 'dy':
  the gradient of the kernel, and in the last row that of the bias.

  Args:
    kind: one of `KINDS`.
    shape: of the images, `[N, H, W, C]`.
    size: side of the depthwise kernel.
    pad_before: zeros before the first row and column of x.
    epilogue: of the forward kernel.
    bands: parts into which the rows of an image are divided; None: those that
      keep a GPU busy. For measurements and tests.
    shared_bytes: that a thread block may have. The more, the more rows are
      under way; the result's bits do not depend on it.

  Raises:
    ValueError: it is not `supported`.
  """
  if reason := supported(kind, shape, size, pad_before, epilogue):
    raise ValueError(f'{kind}: no GPU kernel: {reason}')
  plan = make_plan(shape, size, bands)
  is_forward = kind == 'forward'
  shared = shared_memory.lay_out(
    size,
    plan,
    extra_rows=int(epilogue.adds or not is_forward),  # the residual, or dy
    gradient=epilogue.gradient,
    sums_kernel=not is_forward,
    available=shared_bytes,
  )
  defines = [
    ('KERNEL_SIZE', size),
    ('PAD_BEFORE', pad_before),
    ('TILES', plan.tiles),
    ('HAS_NEIGHBOURS', int(plan.column_blocks > 1)),
    ('STAGES', shared.stages),
  ]
  if is_forward:
    entry = 'correlate'
    rows = 2 if epilogue.sums else 0
    defines += [
      ('ACTIVATION', ACTIVATION_NUMBERS[epilogue.activation]),
      ('SUMS', int(epilogue.sums)),
      ('SCALE', int(epilogue.scale)),
      ('RESIDUAL', int(epilogue.adds)),
      ('GRADIENT', int(epilogue.gradient)),
    ]
    pointers = ['x', 'kernel', 'bias']
    pointers += ['factor'] * epilogue.scale
    pointers += ['residual'] * epilogue.residual
    pointers += ['z', 'coefficients'] * epilogue.gradient
    pointers += ['y'] + ['dy'] * epilogue.gradient
    pointers += ['workspace'] * epilogue.sums
  else:
    entry = 'kernel_gradient'
    rows = size * size + 1
    pointers = ['x', 'dy', 'workspace']
  main = Launch(
    entry=entry,
    grid=(shape[3] // CHANNELS * plan.column_blocks, plan.groups, 1),
    block=(_THREADS, 1, 1),
    shared_bytes=shared.num_bytes,
    pointers=tuple(pointers),
    integers=(*shape, plan.bands),
  )
  partial_sums = plan.column_blocks * plan.groups
  values = rows * shape[3]
  launches = (main,) if not rows else (main, _sum_launch(partial_sums, values))
  return Instance(
    source=SOURCES[kind],
    defines=tuple(defines),
    launches=launches,
    workspace_bytes=4 * partial_sums * values,
  )


def _sum_launch(partial_sums, values):
  return Launch(
    entry=_SUM_ENTRY,
    grid=(-(-values // 256), 1, 1),
    block=(256, 1, 1),
    shared_bytes=0,
    pointers=('workspace', 'sums'),
    integers=(partial_sums, values),
  )


def _check(kind, shape, size, pad_before, epilogue):
  if kind not in KINDS:
    raise ValueError(f'kind {kind!r} is unknown; use one of {", ".join(KINDS)}')
  if len(shape) != 4:
    raise ValueError(f'{kind}: shape {list(shape)} is not [N, H, W, C]')
  if epilogue.activation not in ACTIVATION_NUMBERS:
    raise ValueError(
      f'{kind}: activation {epilogue.activation!r} is unknown; use one of '
      f'{", ".join(map(str, ACTIVATION_NUMBERS))}'
    )
  if kind != 'forward' and epilogue != Epilogue():
    raise ValueError(f'{kind} has no epilogue; it was given {epilogue}')
  if epilogue.sums and (epilogue.scale or epilogue.residual):
    raise ValueError(f'{kind}: sums exclude scale and residual: {epilogue}')
  if epilogue.gradient and (
    epilogue.sums or epilogue.scale or epilogue.residual
  ):
    raise ValueError(f'{kind}: gradient excludes all others: {epilogue}')
