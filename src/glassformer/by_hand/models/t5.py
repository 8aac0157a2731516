"""T5 (Raffel et al. 2020) by hand: an encoder-decoder whose only positions are learned biases of the distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.sequence_to_sequence import SequenceToSequenceModel, padding
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.activation import gelu_tanh, relu, silu
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.feed_forward import FeedForward, GatedFeedForward
from glassformer.by_hand.parts.linear import Linear, TiedLinear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import RMSNorm
from glassformer.by_hand.parts.position import BucketedBias

FEED_FORWARDS = {
    "relu": partial(FeedForward, activation=relu, bias=False),
    "gated-gelu": partial(GatedFeedForward, activation=gelu_tanh),
    "gated-silu": partial(GatedFeedForward, activation=silu),
}


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Section 3.1 and table 14 of the paper; the defaults are the small model. `num_decoder_layers=None`: as many."""

    vocab_size: int = 32_128
    dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = None  # type: ignore[assignment]  # filled in below
    num_heads: int = 8
    head_dim: int = 64
    hidden_dim: int = 2048
    feed_forward: str = "relu"
    num_buckets: int = 32
    max_distance: int = 128
    bias_per_layer: bool = False
    norm_eps: float = 1e-6
    dropout: float = 0.1
    tied: bool = True
    scaled: bool = True
    decoder_start_token_id: int = 0
    pad_token_id: int = 0
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        if self.num_decoder_layers is None:
            object.__setattr__(self, "num_decoder_layers", self.num_encoder_layers)


class T5EncoderBlock(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (section 2.1)."""

    def __init__(self, config: T5Config) -> None:
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = _attention(config)
        self.attention_dropout = Dropout(config.dropout)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FEED_FORWARDS[config.feed_forward](config.dim, config.hidden_dim, dropout=config.dropout)
        self.feed_forward_dropout = Dropout(config.dropout)

    def forward(self, x: Array, *, mask: Mask, score_bias: Array) -> Array:
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), mask=mask, score_bias=score_bias))
        return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))

    def backward(self, dy: Array) -> tuple[Array, None]:
        """The gradient of `x` (there is no context); that of the bias is left in `attention.d_score_bias`."""
        branch = self.feed_forward.backward(self.feed_forward_dropout.backward(dy))
        dy = dy + self.feed_forward_norm.backward(branch)
        branch = self.attention.backward(self.attention_dropout.backward(dy))
        return dy + self.attention_norm.backward(branch), None


class T5DecoderBlock(Module):
    """The same, and between the two a look at the encoder's output: x + cross_attention(norm(x), context)."""

    def __init__(self, config: T5Config) -> None:
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = _attention(config)
        self.attention_dropout = Dropout(config.dropout)
        self.cross_attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.cross_attention = _attention(config)
        self.cross_attention_dropout = Dropout(config.dropout)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FEED_FORWARDS[config.feed_forward](config.dim, config.hidden_dim, dropout=config.dropout)
        self.feed_forward_dropout = Dropout(config.dropout)

    def forward(self, x: Array, context: Array, *, mask: Mask, context_mask: Mask, score_bias: Array) -> Array:
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), mask=mask, score_bias=score_bias))
        read = self.cross_attention(self.cross_attention_norm(x), context, mask=context_mask)
        x = x + self.cross_attention_dropout(read)
        return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """The gradients of `x` and of the context; that of the bias is left in `attention.d_score_bias`."""
        branch = self.feed_forward.backward(self.feed_forward_dropout.backward(dy))
        dy = dy + self.feed_forward_norm.backward(branch)
        branch, d_context = self.cross_attention.backward(self.cross_attention_dropout.backward(dy))
        dy = dy + self.cross_attention_norm.backward(branch)
        branch = self.attention.backward(self.attention_dropout.backward(dy))
        return dy + self.attention_norm.backward(branch), d_context


def _attention(config: T5Config) -> Attention:
    return Attention(
        config.dim, config.num_heads, head_dim=config.head_dim, biased="", scale=1.0, dropout=config.dropout
    )


class T5Stack(Module):
    """The blocks of the encoder or the decoder, their biases (one for all, or one each), and a last norm."""

    def __init__(self, config: T5Config, blocks: Sequence[T5EncoderBlock | T5DecoderBlock], *, both_ways: bool) -> None:
        self.biases = [
            BucketedBias(config.num_buckets, config.num_heads, max_distance=config.max_distance, both_ways=both_ways)
            for _ in (blocks if config.bias_per_layer else blocks[:1])
        ]
        self.blocks = list(blocks)
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.dropout, self.last_dropout = Dropout(config.dropout), Dropout(config.dropout)

    def forward(self, x: Array, *context: Array, **masks: Mask) -> Array:
        t = x.shape[1]
        x, biases = self.dropout(x), [bias(t, t) for bias in self.biases]
        for i, block in enumerate(self.blocks):
            x = block(x, *context, score_bias=biases[i % len(biases)], **masks)
        return self.last_dropout(self.norm(x))

    def backward(self, dy: Array) -> tuple[Array, Array | None]:
        """The gradients of `x` and of the context, to which every block adds; a bias gathers from its blocks."""
        dy, d_context = self.norm.backward(self.last_dropout.backward(dy)), None
        for i, block in reversed(list(enumerate(self.blocks))):
            dy, d_read = block.backward(dy)
            self.biases[i % len(self.biases)].backward(block.attention.d_score_bias)
            d_context = d_read if d_context is None or d_read is None else d_context + d_read
        return self.dropout.backward(dy), d_context


class T5(SequenceToSequenceModel):
    """One embedding for source and target, the encoder, the decoder, and the head."""

    architecture = "T5ForConditionalGeneration"

    def __init__(self, config: T5Config, *, seed: int | None = 0) -> None:
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self._target_embed = self.embed.shared()
        encoder = [T5EncoderBlock(config) for _ in range(config.num_encoder_layers)]
        decoder = [T5DecoderBlock(config) for _ in range(config.num_decoder_layers)]
        self.encoder = T5Stack(config, encoder, both_ways=True)
        self.decoder = T5Stack(config, decoder, both_ways=False)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        self._scale = config.dim**-0.5 if config.scaled else 1.0
        if seed is not None:
            self.initialize(seed, std=0.05)

    def encode(self, input_ids: Array, attention_mask: Array | None = None) -> Array:
        return self.encoder(self.embed(input_ids), mask=padding(attention_mask))

    def encode_backward(self, d_encoded: Array) -> None:
        self.embed.backward(self.encoder.backward(d_encoded)[0])

    def decode(
        self,
        decoder_input_ids: Array,
        encoder_output: Array,
        attention_mask: Array | None = None,
        decoder_attention_mask: Array | None = None,
    ) -> Array:
        mask = Mask.causal() & padding(decoder_attention_mask)
        x = self._target_embed(decoder_input_ids)
        return self._scale * self.decoder(x, encoder_output, mask=mask, context_mask=padding(attention_mask))

    def decode_backward(self, dx: Array) -> Array:
        dx, d_context = self.decoder.backward(dx * self._scale)
        self._target_embed.backward(dx)
        assert d_context is not None
        return d_context

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> T5Config:
        """T5Config from config.json: v1.0's, and v1.1's, whose head is not scaled."""
        config = rename(
            theirs, T5Config,
            {
                "vocab_size": "vocab_size", "d_model": "dim", "num_layers": "num_encoder_layers",
                "num_decoder_layers": "num_decoder_layers", "num_heads": "num_heads", "d_kv": "head_dim",
                "d_ff": "hidden_dim", "feed_forward_proj": "feed_forward", "dropout_rate": "dropout",
                "relative_attention_num_buckets": "num_buckets", "relative_attention_max_distance": "max_distance",
                "layer_norm_epsilon": "norm_eps", "tie_word_embeddings": "tied", "scale_decoder_outputs": "scaled",
                "decoder_start_token_id": "decoder_start_token_id", "pad_token_id": "pad_token_id",
                "eos_token_id": "eos_token_id",
            },
            fixed={"model_type": "t5"},
        )  # fmt: skip
        if config.feed_forward not in FEED_FORWARDS:
            known = ", ".join(FEED_FORWARDS)
            raise ValueError(f"config.json has feed_forward_proj={config.feed_forward!r}; known: {known}")
        return config

    @staticmethod
    def names(config: T5Config) -> Names:
        names: Names = {"shared.weight": "embed.weight"}
        if not config.tied:
            names["lm_head.weight"] = "head.weight"
        inner = (
            {"wi": "up", "wo": "down"}
            if config.feed_forward == "relu"
            else {"wi_0": "gate", "wi_1": "up", "wo": "down"}
        )
        for stack, num_layers in (("encoder", config.num_encoder_layers), ("decoder", config.num_decoder_layers)):
            names[f"{stack}.final_layer_norm.weight"] = f"{stack}.norm.weight"
            bias = "layer.0.SelfAttention.relative_attention_bias.weight"
            names[f"{stack}.block.0.{bias}"] = f"{stack}.biases.0.weight"
            kinds = [("SelfAttention", "attention"), ("EncDecAttention", "cross_attention")][: 1 + (stack == "decoder")]
            for i in range(num_layers):
                there, here = f"{stack}.block.{i}.layer", f"{stack}.blocks.{i}"
                for j, (kind, ours) in enumerate(kinds):
                    names[f"{there}.{j}.layer_norm.weight"] = f"{here}.{ours}_norm.weight"
                    for part, name in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
                        names[f"{there}.{j}.{kind}.{part}.weight"] = f"{here}.{ours}.{name}.weight"
                names[f"{there}.{len(kinds)}.layer_norm.weight"] = f"{here}.feed_forward_norm.weight"
                for part, name in inner.items():
                    names[f"{there}.{len(kinds)}.DenseReluDense.{part}.weight"] = f"{here}.feed_forward.{name}.weight"
        return names
