"""Models as programs that run elsewhere: ONNX."""

from glassformer.export.onnx import export_onnx, onnx_difference

__all__ = ["export_onnx", "onnx_difference"]
