"""Look inside a model: what it computes on its way to the answer."""

from glassformer.tracing.attention import attention_weights, listening_to_attention

__all__ = ["attention_weights", "listening_to_attention"]
