"""What models are made of, one idea per file."""

from glassformer.parts.activation import ACTIVATIONS, gelu, gelu_tanh, relu, silu
from glassformer.parts.attention import Attention, CrossAttention, GroupedQueryAttention, MultiQueryAttention
from glassformer.parts.attention_in_windows import attend_in_windows
from glassformer.parts.by_parts import few_at_a_time
from glassformer.parts.cache import KeyValueCache, LayerCache
from glassformer.parts.deformable_attention import DeformableAttention
from glassformer.parts.dropout import Dropout
from glassformer.parts.embedding import Embedding
from glassformer.parts.experts import GroupedRouter, MixtureOfExperts, Routing, TopKRouter, load_balancing_loss
from glassformer.parts.feed_forward import FeedForward, GatedFeedForward
from glassformer.parts.fixed_position import FixedPosition
from glassformer.parts.kernels import kernels, use_kernels
from glassformer.parts.latent_attention import LatentAttention
from glassformer.parts.layer_scale import LayerScale
from glassformer.parts.linear import Linear, TiedLinear
from glassformer.parts.linear_attention import LinearAttention, LinearState
from glassformer.parts.mix_feed_forward import DepthwiseConvolution, MixFeedForward, OverlappingPatchEmbedding
from glassformer.parts.norm import LayerNorm, RMSNorm, ScaledUnitNorm, UnitNorm, ZeroCenteredRMSNorm
from glassformer.parts.patch import GridPosition, PatchEmbedding
from glassformer.parts.position import (
    ALiBi,
    BucketedBias,
    DynamicScaling,
    LearnedPosition,
    LinearScaling,
    Llama3Scaling,
    Rotary,
    RotaryScaling,
    Rotation,
    SinusoidalPosition,
    YarnScaling,
)
from glassformer.parts.rotary_embedding import RotaryPositionalEmbedding, apply_rotary_pos_emb
from glassformer.parts.stochastic_depth import StochasticDepth
from glassformer.parts.tubelet import TubeletEmbedding
from glassformer.parts.window_attention import SlidingWindowAttention
from glassformer.parts.windows import ContinuousWindowBias, WindowBias, WindowMasks, Windows

__all__ = [
    "ACTIVATIONS",
    "ALiBi",
    "Attention",
    "BucketedBias",
    "ContinuousWindowBias",
    "CrossAttention",
    "DeformableAttention",
    "DepthwiseConvolution",
    "Dropout",
    "DynamicScaling",
    "Embedding",
    "FeedForward",
    "FixedPosition",
    "GatedFeedForward",
    "GridPosition",
    "GroupedQueryAttention",
    "GroupedRouter",
    "KeyValueCache",
    "LatentAttention",
    "LayerCache",
    "LayerNorm",
    "LayerScale",
    "LearnedPosition",
    "Linear",
    "LinearAttention",
    "LinearScaling",
    "LinearState",
    "Llama3Scaling",
    "MixFeedForward",
    "MixtureOfExperts",
    "MultiQueryAttention",
    "OverlappingPatchEmbedding",
    "PatchEmbedding",
    "RMSNorm",
    "Rotary",
    "RotaryPositionalEmbedding",
    "RotaryScaling",
    "Rotation",
    "Routing",
    "ScaledUnitNorm",
    "SinusoidalPosition",
    "SlidingWindowAttention",
    "StochasticDepth",
    "TiedLinear",
    "TopKRouter",
    "TubeletEmbedding",
    "UnitNorm",
    "WindowBias",
    "WindowMasks",
    "Windows",
    "YarnScaling",
    "ZeroCenteredRMSNorm",
    "apply_rotary_pos_emb",
    "attend_in_windows",
    "few_at_a_time",
    "gelu",
    "gelu_tanh",
    "kernels",
    "load_balancing_loss",
    "relu",
    "silu",
    "use_kernels",
]
