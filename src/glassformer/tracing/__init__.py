"""Look inside a model: what it computes on its way to the answer."""

from glassformer.tracing.attention import attention_weights

__all__ = ["attention_weights"]
