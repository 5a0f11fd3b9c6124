"""The backends of this package: kernels for CPUs and GPUs, two forms for XLA.

A backend for another platform is registered here too. Some callers name
backends: `linear.py` gives all products that are not of float32 images or
tokens to 'xla', and ConvMixer gives its norms and products to 'xla' where the
backend of its convolutions does not have them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from convmixer_jax.kernels import dispatch
from convmixer_jax.kernels.cpu import adamw as cpu_adamw
from convmixer_jax.kernels.cpu import attention as cpu_attention
from convmixer_jax.kernels.cpu import batch_norm as cpu_batch_norm
from convmixer_jax.kernels.cpu import conv as cpu_conv
from convmixer_jax.kernels.cpu import depthwise as cpu_depthwise
from convmixer_jax.kernels.cpu import layer_norm as cpu_layer_norm
from convmixer_jax.kernels.cpu import library
from convmixer_jax.kernels.cpu import linear as cpu_linear
from convmixer_jax.kernels.cpu import max_pool as cpu_max_pool
from convmixer_jax.kernels.cpu import norm as cpu_norm
from convmixer_jax.kernels.cpu import stored as cpu_stored
from convmixer_jax.kernels.cpu import swap_tokens as cpu_swap_tokens
from convmixer_jax.kernels.gpu import depthwise as gpu_depthwise
from convmixer_jax.kernels.under_vmap import except_under_vmap
from convmixer_jax.kernels.xla import attention as xla_attention
from convmixer_jax.kernels.xla import batch_norm as xla_batch_norm
from convmixer_jax.kernels.xla import biased as xla_biased
from convmixer_jax.kernels.xla import conv as xla_conv
from convmixer_jax.kernels.xla import dense as xla_dense
from convmixer_jax.kernels.xla import depthwise as xla_depthwise
from convmixer_jax.kernels.xla import layer_norm as xla_layer_norm
from convmixer_jax.kernels.xla import linear as xla_linear
from convmixer_jax.kernels.xla import max_pool as xla_max_pool
from convmixer_jax.kernels.xla import norm as xla_norm
from convmixer_jax.kernels.xla import shift
from convmixer_jax.kernels.xla.fused_mixer import fused_mixer

# The largest kernel for which cuDNN is expected to have fast depthwise kernels
# in NHWC, the only layout XLA uses on Hopper. Beyond, it is slow: 9 x 9 reached
# 1 % of the rate of a copy on an H100. What 'shift' takes, and cuDNN for 7 x 7,
# was not measured yet.
_LARGEST_OF_CUDNN = 7


def best_xla_form_on_gpu(kernel_size: int) -> str:
  """Returns which of 'shift' and 'xla' is faster on NVIDIA GPUs.

  It only computes: no platform of JAX is started.

  Args:
    kernel_size: side of the depthwise kernels.
  """
  return 'xla' if kernel_size <= _LARGEST_OF_CUDNN else 'shift'


def _kernel_size(
  operation: str, operands: dispatch.Operands, static: Mapping[str, Any]
) -> int | None:
  """Returns the side of an operation's depthwise kernel; None: it has none."""
  if operation == 'depthwise_conv':
    return operands[1].shape[0]
  if operation == 'depthwise_kernel_gradient':
    return static['size']
  if operation == 'fused_mixer':
    return operands[4].shape[0]
  return None


def _shift_is_preferred(platform, operation, operands, static):
  if platform == 'cuda':
    size = _kernel_size(operation, operands, static)
    return best_xla_form_on_gpu(size) == 'shift'
  return platform == 'cpu'


_CPU_SOURCES = {
  'adamw': 'adamw',
  'attention': 'attention',
  'attention_forward': 'attention',
  'attention_gradient': 'attention',
  'batch_norm_sums': 'batch_norm',
  'batch_norm_affine': 'batch_norm',
  'batch_norm_gradient': 'batch_norm',
  'depthwise_conv': 'depthwise',
  'depthwise_kernel_gradient': 'depthwise',
  'fused_mixer': 'depthwise',
  'layer_norm': 'layer_norm',
  'layer_norm_gradient': 'layer_norm',
  'linear': 'linear',
  'linear_transposed': 'linear',
  'linear_kernel_gradient': 'linear',
  'conv': 'linear',
  'conv_transposed': 'linear',
  'conv_kernel_gradient': 'linear',
  'biased_linear': 'linear',
  'biased_packed': 'linear',
  'biased_conv': 'linear',
  'gelu_linear': 'linear',
  'gelu_linear_transposed': 'linear',
  'dense_gradients': 'linear',
  'linear_pack': 'linear',
  'linear_packed': 'linear',
  'max_pool': 'max_pool',
  'max_pool_gradient': 'max_pool',
  'norm_sums': 'norm',
  'norm_affine': 'norm',
  'norm_gradient': 'norm',
  'stored': 'stored',
  'swap_tokens': 'transpose',
}


def _cpu_unavailable(operation, operands, static):
  return library.unavailable(
    _CPU_SOURCES[operation], _kernel_size(operation, operands, static)
  )


_SHIFT: dict[str, Callable[..., Any]] = {
  'depthwise_conv': shift.correlate,
  'depthwise_kernel_gradient': shift.kernel_gradient,
  'fused_mixer': functools.partial(fused_mixer, convolution=shift.correlate),
}
_XLA: dict[str, Callable[..., Any]] = {
  'attention': xla_attention.attention,
  'attention_forward': xla_attention.forward,
  'attention_gradient': xla_attention.gradient,
  'batch_norm_sums': xla_batch_norm.sums,
  'batch_norm_affine': xla_batch_norm.affine,
  'batch_norm_gradient': xla_batch_norm.gradient,
  'depthwise_conv': xla_depthwise.correlate,
  'depthwise_kernel_gradient': xla_depthwise.kernel_gradient,
  'fused_mixer': functools.partial(
    fused_mixer, convolution=xla_depthwise.correlate
  ),
  'layer_norm': xla_layer_norm.forward,
  'layer_norm_gradient': xla_layer_norm.gradient,
  'linear': xla_linear.product,
  'linear_transposed': xla_linear.transposed_product,
  'linear_kernel_gradient': xla_linear.kernel_gradient,
  'conv': xla_conv.convolve,
  'conv_transposed': xla_conv.transposed,
  'conv_kernel_gradient': xla_conv.kernel_gradient,
  'biased_linear': xla_biased.product,
  'biased_conv': xla_biased.convolve,
  'max_pool': xla_max_pool.max_pool,
  'max_pool_gradient': xla_max_pool.gradient,
  'gelu_linear': xla_dense.gelu_product,
  'gelu_linear_transposed': xla_dense.gelu_transposed_product,
  'dense_gradients': xla_dense.gradients,
  'norm_sums': xla_norm.sums,
  'norm_affine': xla_norm.affine,
  'norm_gradient': xla_norm.gradient,
  'stored': lambda x: x,
  'swap_tokens': lambda x: x.swapaxes(1, 2),
}
_CPU: dict[str, Callable[..., Any]] = {
  'adamw': cpu_adamw.step,
  'attention': cpu_attention.attention,
  'attention_forward': cpu_attention.forward,
  'attention_gradient': cpu_attention.gradient,
  'batch_norm_sums': cpu_batch_norm.sums,
  'batch_norm_affine': cpu_batch_norm.affine,
  'batch_norm_gradient': cpu_batch_norm.gradient,
  'depthwise_conv': cpu_depthwise.correlate,
  'depthwise_kernel_gradient': cpu_depthwise.kernel_gradient,
  'fused_mixer': cpu_depthwise.fused_mixer,
  'layer_norm': cpu_layer_norm.forward,
  'layer_norm_gradient': cpu_layer_norm.gradient,
  'linear': cpu_linear.product,
  'linear_transposed': cpu_linear.transposed_product,
  'linear_kernel_gradient': cpu_linear.kernel_gradient,
  'conv': cpu_conv.convolve,
  'conv_transposed': cpu_conv.transposed,
  'conv_kernel_gradient': cpu_conv.kernel_gradient,
  'biased_linear': cpu_linear.biased_product,
  'biased_packed': cpu_linear.biased_multiply,
  'biased_conv': cpu_conv.biased_convolve,
  'gelu_linear': cpu_linear.gelu_product,
  'gelu_linear_transposed': cpu_linear.gelu_transposed_product,
  'dense_gradients': cpu_linear.dense_gradients,
  'linear_pack': cpu_linear.pack,
  'linear_packed': cpu_linear.multiply,
  'max_pool': cpu_max_pool.max_pool,
  'max_pool_gradient': cpu_max_pool.gradient,
  'norm_sums': cpu_norm.sums,
  'norm_affine': cpu_norm.affine,
  'norm_gradient': cpu_norm.gradient,
  'stored': cpu_stored.stored,
  'swap_tokens': cpu_swap_tokens.swap_tokens,
}
_UNDER_VMAP = _XLA | _SHIFT  # on CPUs


dispatch.register(
  dispatch.Backend(
    name='cpu',
    platform='cpu',
    unavailable=_cpu_unavailable,
    functions={
      name: except_under_vmap(function, _UNDER_VMAP[name])
      if name in _UNDER_VMAP
      else function
      for name, function in _CPU.items()
    },
  )
)
dispatch.register(
  dispatch.Backend(
    name='cuda',
    platform='cuda',
    unavailable=gpu_depthwise.unavailable,
    functions={
      'depthwise_conv': gpu_depthwise.correlate,
      'depthwise_conv_add': gpu_depthwise.correlate_and_add,
      'depthwise_conv_gradient': gpu_depthwise.correlate_gradient,
      'depthwise_conv_sums': gpu_depthwise.correlate_and_sum,
      'depthwise_kernel_gradient': gpu_depthwise.kernel_gradient,
      'fused_mixer': gpu_depthwise.fused_mixer,
    },
  )
)
dispatch.register(
  dispatch.Backend(
    name='shift',
    preferred=_shift_is_preferred,
    functions=_SHIFT,
  )
)
dispatch.register(
  dispatch.Backend(
    name='xla',
    functions=_XLA,
  )
)
