"""What is said of Transformers, computed: why scores are scaled, what depth does to gradients and to attention alone,
and how many parameters there are. Each function draws its own numbers from a seed and gives arrays to look at.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.models.bert import BERTConfig
from glassformer.by_hand.models.gpt2 import GPT2Config
from glassformer.by_hand.models.llama import LlamaConfig
from glassformer.by_hand.models.t5 import T5Config
from glassformer.by_hand.models.transformer import TransformerConfig
from glassformer.by_hand.models.transformer_blocks import EncoderBlock, Residual, Sublayers, post_norm, pre_norm
from glassformer.by_hand.ops.attend import softmax
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import LayerNorm

# Scores and their scale ----------------------------------------------------------------------------------------------


def dot_product_variance(widths: Sequence[int], *, samples: int = 4000, seed: int = 0) -> Array:
    """Var(q · k) for each width k of a head, its components independent with mean 0 and variance 1: it is the width.

    Var(Σ_i q_i k_i) = Σ_i Var(q_i k_i) = Σ_i E[q_i²] E[k_i²] = d_k   (Vaswani et al. 2017, footnote 4).
    """
    random = np.random.default_rng(seed)
    return np.array([
        np.vecdot(random.standard_normal((samples, width)), random.standard_normal((samples, width))).var()
        for width in widths
    ])  # fmt: skip


@dataclass(frozen=True)
class Sharpness:
    """For each width: the entropy of the weights in nats, and the size of softmax's Jacobian, means over queries."""

    widths: Array
    entropy: Array
    gradient: Array


def softmax_sharpness(
    widths: Sequence[int], *, scaled: bool, keys: int = 64, samples: int = 500, seed: int = 0
) -> Sharpness:
    """What the scale 1/√d_k does. Without it scores have a deviation of √d_k, and softmax becomes one-hot.

        H = −Σ_i w_i log w_i:            log(keys) where all are alike, 0 where one has everything
        J = ∂w/∂s = diag(w) − w wᵀ:      ‖J‖² = Σ_i w_i² − 2 Σ_i w_i³ + (Σ_i w_i²)²

    At a one-hot w the Jacobian is 0: no gradient reaches q and k any more (Vaswani et al. 2017, section 3.2.1). With
    the scale, the variance of scores is 1 at every width, and both stay where they are.
    """
    random = np.random.default_rng(seed)
    entropy, gradient = [], []
    for width in widths:
        q = random.standard_normal((samples, width))
        k = random.standard_normal((samples, keys, width))
        weights = softmax(np.vecdot(q[:, None], k) * (width**-0.5 if scaled else 1.0))
        entropy.append(-(weights * np.log(np.maximum(weights, 1e-300))).sum(-1).mean())
        squares = (weights**2).sum(-1)
        jacobian = squares - 2 * (weights**3).sum(-1) + squares**2
        gradient.append(np.sqrt(np.maximum(jacobian, 0)).mean())
    return Sharpness(np.array(widths), np.array(entropy), np.array(gradient))


# Depth ---------------------------------------------------------------------------------------------------------------


def _alone(x: Array, norm: LayerNorm, sublayer: Callable[[Array], Array]) -> Array:
    return sublayer(x)


def _alone_backward(dy: Array, norm: LayerNorm, back: Callable[[Array], Array]) -> Array:
    return back(dy)


no_residual = Residual(_alone, _alone_backward)
"""sublayer(x): nothing is added, and nothing normalised."""

WIRINGS = {"pre-norm": pre_norm, "post-norm": post_norm, "no residual": no_residual}


def gradient_norms(
    depth: int, wiring: str, *, dim: int = 64, heads: int = 4, tokens: int = 16, draws: int = 4, seed: int = 0
) -> Array:
    """‖∂L/∂x_l‖ at the input of each block l = 0 … depth − 1 and at the output, of a fresh encoder, mean over draws.

    L = Σ x_depth · g with a random g, so that the last number is ‖g‖ whatever the wiring. Weights are drawn with
    variance 1 / inputs. With y = x + f(x) gradients are dy + (∂f/∂x)ᵀ dy: what the sub-layer loses, the sum keeps.
    Without the sum they are products of depth Jacobians, and shrink or grow as a power of depth does (Xiong et al.
    2020, section 3, for what the place of the norm does). Raises ValueError for an unknown wiring.
    """
    if wiring not in WIRINGS:
        raise ValueError(f"wiring is {wiring!r}; expected one of {', '.join(WIRINGS)}")
    random = np.random.default_rng(seed)
    norms = np.zeros(depth + 1)
    for _ in range(draws):
        of = Sublayers(dim=dim, num_heads=heads, hidden_dim=4 * dim, residual=WIRINGS[wiring])
        blocks = [_drawn(EncoderBlock(of), random) for _ in range(depth)]
        x = random.standard_normal((1, tokens, dim))
        for block in blocks:
            x = block(x, mask=Mask())
        dx = random.standard_normal(x.shape)
        norms[depth] += np.linalg.norm(dx)
        for i in reversed(range(depth)):
            dx = blocks[i].backward(dx)
            norms[i] += np.linalg.norm(dx)
    return norms / draws


def rank_residuals(
    depth: int, *, skip: bool = False, dim: int = 64, heads: int = 4, tokens: int = 32, seed: int = 0
) -> Array:
    """‖x − 1 mean(x)ᵀ‖ / ‖x‖ after 0 … depth layers of attention and nothing else: how far rows are from all alike.

    A layer replaces rows by averages of rows, with weights that are positive; what tells them apart shrinks doubly
    exponentially with depth, until the matrix has rank 1 (Dong et al. 2021, theorem 2.2). With a skip connection,
    x + attention(x), it does not.
    """
    random = np.random.default_rng(seed)
    x = random.standard_normal((1, tokens, dim))
    found = [_apart(x)]
    for _ in range(depth):
        y = _drawn(Attention(dim, heads), random)(x)
        x = x + y if skip else y
        x /= np.sqrt((x * x).mean())  # the share does not change, and nothing underflows
        found.append(_apart(x))
    return np.array(found)


def _apart(x: Array) -> float:
    return float(np.linalg.norm(x - x.mean(1, keepdims=True)) / np.linalg.norm(x))


def _drawn(module: Module, random: np.random.Generator) -> Any:
    """The module in float64, its matrices drawn with variance 1 / inputs: each product keeps the variance."""
    for parameter in module.astype(np.float64).parameters():
        if parameter.data.ndim > 1:
            parameter.assign(random.standard_normal(parameter.data.shape) / math.sqrt(parameter.data.shape[-1]))
    return module


# Parameters ----------------------------------------------------------------------------------------------------------


def linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    """i o + o."""
    return inputs * outputs + outputs * bias


def attention(
    dim: int, heads: int, *, kv_heads: int | None = None, head_dim: int | None = None, bias: bool = True
) -> int:
    """Queries and output d · h k each, keys and values d · g k each: 4 d² where h k = d and g = h; biases beside."""
    width = dim // heads if head_dim is None else head_dim
    kv_dim = width * (heads if kv_heads is None else kv_heads)
    q_dim = heads * width
    return linear(dim, q_dim, bias=bias) + 2 * linear(dim, kv_dim, bias=bias) + linear(q_dim, dim, bias=bias)


def feed_forward(dim: int, hidden_dim: int, *, gated: bool = False, bias: bool = True) -> int:
    """2 d f, or 3 d f where it is gated: 8 d² at f = 4 d, as at f = 8/3 d with a gate; biases beside."""
    return (1 + gated) * linear(dim, hidden_dim, bias=bias) + linear(hidden_dim, dim, bias=bias)


def layer_norm(dim: int) -> int:
    """2 d: gains and biases."""
    return 2 * dim


def num_parameters(config: Any) -> int:
    """All parameters of a model by its config, in closed form: the sum of `parameter_table`.

    Raises TypeError for a config that has no formula here.
    """
    return sum(parameter_table(config).values())


def parameter_table(config: Any) -> dict[str, int]:
    """The same, by what it is spent on: "embeddings", "attention", "feed-forward", "norms", "head".

        GPT-2   v d + p d  +  L (4 d² + 4 d  +  2 d f + f + d  +  4 d)  +  2 d            ≈ 12 L d² + v d
        BERT    (v + p + s) d + 2 d  +  L (the same)  +  d² + d (pooler)
        Llama   v d  +  L (2 d h k + 2 d g k  +  3 d f  +  2 d)  +  d  +  v d (unless tied)
        2017    v d  +  N (4 d² + 4 d + 2 d f + f + d + 4 d)  +  M (8 d² + 8 d + 2 d f + f + d + 6 d)
        T5      v d  +  (N + 2 M) 4 d h k  +  (N + M) 2 d f (3 d f gated)  +  (2 N + 3 M + 2) d  +  2 b h

    v vocabulary, p positions, s segments, L layers, N and M those of encoder and decoder, f hidden width, b buckets.
    """
    formulas: dict[type, Callable[[Any], dict[str, int]]] = {
        GPT2Config: _gpt2, BERTConfig: _bert, LlamaConfig: _llama, TransformerConfig: _transformer, T5Config: _t5,
    }  # fmt: skip
    if type(config) not in formulas:
        raise TypeError(f"{type(config).__name__} has no formula; expected one of "
                        f"{', '.join(kind.__name__ for kind in formulas)}")  # fmt: skip
    return formulas[type(config)](config)


def _gpt2(c: GPT2Config) -> dict[str, int]:
    return {
        "embeddings": (c.vocab_size + c.max_positions) * c.dim,
        "attention": c.num_layers * attention(c.dim, c.num_heads),
        "feed-forward": c.num_layers * feed_forward(c.dim, c.hidden_dim or 4 * c.dim),
        "norms": (2 * c.num_layers + 1) * layer_norm(c.dim),
        "head": 0 if c.tied else c.vocab_size * c.dim,
    }


def _bert(c: BERTConfig) -> dict[str, int]:
    return {
        "embeddings": (c.vocab_size + c.max_positions + c.num_segments) * c.dim,
        "attention": c.num_layers * attention(c.dim, c.num_heads),
        "feed-forward": c.num_layers * feed_forward(c.dim, c.hidden_dim),
        "norms": (2 * c.num_layers + 1) * layer_norm(c.dim),
        "head": linear(c.dim, c.dim),
    }


def _llama(c: LlamaConfig) -> dict[str, int]:
    heads = attention(c.dim, c.num_heads, kv_heads=c.num_kv_heads, head_dim=c.head_dim, bias=c.attention_bias)
    return {
        "embeddings": c.vocab_size * c.dim,
        "attention": c.num_layers * heads,
        "feed-forward": c.num_layers * feed_forward(c.dim, c.hidden_dim, gated=True, bias=c.feed_forward_bias),
        "norms": (2 * c.num_layers + 1) * c.dim,
        "head": 0 if c.tied else c.vocab_size * c.dim,
    }


def _transformer(c: TransformerConfig) -> dict[str, int]:
    n, m = c.num_encoder_layers, c.num_decoder_layers
    return {
        "embeddings": c.vocab_size * c.dim,
        "attention": (n + 2 * m) * attention(c.dim, c.num_heads),
        "feed-forward": (n + m) * feed_forward(c.dim, c.hidden_dim),
        "norms": (2 * n + 3 * m) * layer_norm(c.dim),
        "head": 0,
    }


def _t5(c: T5Config) -> dict[str, int]:
    n, m = c.num_encoder_layers, c.num_decoder_layers
    biases = n + m if c.bias_per_layer else 2
    gated = c.feed_forward.startswith("gated")
    return {
        "embeddings": c.vocab_size * c.dim + biases * c.num_buckets * c.num_heads,
        "attention": (n + 2 * m) * attention(c.dim, c.num_heads, head_dim=c.head_dim, bias=False),
        "feed-forward": (n + m) * feed_forward(c.dim, c.hidden_dim, gated=gated, bias=False),
        "norms": (2 * n + 3 * m + 2) * c.dim,
        "head": 0 if c.tied else c.vocab_size * c.dim,
    }
