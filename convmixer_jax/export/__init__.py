"""Exports trained networks to files that run without this package."""

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
