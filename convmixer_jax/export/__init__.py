"""A trained network as a file that other programs run, without this one."""

from convmixer_jax.export.card import Format, model_card
from convmixer_jax.export.onnx_graph import ONNX, to_onnx
from convmixer_jax.export.stablehlo import STABLEHLO, to_stablehlo

__all__ = [
  'ONNX',
  'STABLEHLO',
  'Format',
  'model_card',
  'to_onnx',
  'to_stablehlo',
]
