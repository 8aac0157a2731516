"""T5 (Raffel et al. 2020): an encoder-decoder whose only positions are learned biases of the distance.

T5 1.1 (its released code; Shazeer 2020) gates the feed-forward layers and gives the head a weight of its own; mT5 (Xue
et al. 2021) is that on a hundred languages; UMT5 (Chung et al. 2023) has the biases in each block instead of once.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.models.sequence_to_sequence import SequenceToSequenceModel, padding
from glassformer.models.t5_config import CONFIG_TABLE, T5Config, settled, table
from glassformer.ops.mask import Mask
from glassformer.parts import (
    Attention,
    BucketedBias,
    Dropout,
    Embedding,
    FeedForward,
    GatedFeedForward,
    KeyValueCache,
    LayerCache,
    Linear,
    RMSNorm,
    TiedLinear,
    gelu_tanh,
    relu,
    silu,
)

FEED_FORWARDS = {
    "relu": partial(FeedForward, activation=relu, bias=False),
    "gated-gelu": partial(GatedFeedForward, activation=gelu_tanh),
    "gated-silu": partial(GatedFeedForward, activation=silu),
}


def _feed_forward(config: T5Config) -> nn.Module:
    layer = FEED_FORWARDS[config.feed_forward](config.dim, config.hidden_dim, dropout=config.dropout)
    for name, weight in layer.named_parameters():
        nn.init.normal_(weight, std=(config.hidden_dim if name == "down.weight" else config.dim) ** -0.5)
    return layer


def _attention(config: T5Config) -> Attention:
    """The scores are not divided by √k: that is in how queries are drawn, as all of this is in their released code."""
    layer = Attention(
        config.dim, config.num_heads, head_dim=config.head_dim, biased="", scale=1.0, dropout=config.dropout
    )
    nn.init.normal_(layer.query.weight, std=(config.dim * config.head_dim) ** -0.5)
    for projection in (layer.key, layer.value):
        nn.init.normal_(projection.weight, std=config.dim**-0.5)
    nn.init.normal_(layer.output.weight, std=(config.num_heads * config.head_dim) ** -0.5)
    return layer


class T5EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (section 2.1)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = _attention(config)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = _feed_forward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b s d"], *, mask: Mask, score_bias: Tensor) -> Float[Tensor, "b s d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, score_bias=score_bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class T5DecoderBlock(nn.Module):
    """The same, and between the two a look at the encoder's output: x + cross_attention(norm(x), context)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = _attention(config)
        self.cross_attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.cross_attention = _attention(config)
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = _feed_forward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        context: Float[Tensor, "r s d"],
        *,
        mask: Mask,
        context_mask: Mask,
        score_bias: Tensor,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, score_bias=score_bias, cache=cache))
        normal = self.cross_attention_norm(x)
        x = x + self.dropout(self.cross_attention(normal, context, mask=context_mask, cache=cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class T5Stack(nn.Module):
    """The blocks of the encoder or the decoder, their biases (one for all, or one each), and a last norm."""

    def __init__(self, config: T5Config, blocks: Sequence[nn.Module], *, both_ways: bool) -> None:
        super().__init__()
        biases = [
            BucketedBias(config.num_buckets, config.num_heads, max_distance=config.max_distance, both_ways=both_ways)
            for _ in (blocks if config.bias_per_layer else blocks[:1])
        ]
        for bias in biases:
            nn.init.normal_(bias.weight, std=config.dim**-0.5)
        self.biases = nn.ModuleList(biases)
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], *context: Tensor, cache: KeyValueCache | None = None, **masks: Mask
    ) -> Float[Tensor, "b t d"]:
        t, s = x.shape[1], x.shape[1] + (0 if cache is None else cache.length)
        x, biases = self.dropout(x), [bias(t, s) for bias in self.biases]
        for i, block in enumerate(self.blocks):
            kept = {} if cache is None else {"cache": cache.layers[i]}
            x = block(x, *context, score_bias=biases[i % len(biases)], **masks, **kept)
        if cache is not None:
            cache.advance(t)
        return self.dropout(self.norm(x))


class T5(SequenceToSequenceModel):
    """One embedding for source and target, the encoder, the decoder, and the head."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        nn.init.normal_(self.embed.weight)
        encoder = [T5EncoderBlock(config) for _ in range(config.num_encoder_layers)]
        decoder = [T5DecoderBlock(config) for _ in range(config.num_decoder_layers)]
        self.encoder = T5Stack(config, encoder, both_ways=True)
        self.decoder = T5Stack(config, decoder, both_ways=False)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        self.scale = config.dim**-0.5 if config.scaled else 1.0

    @classmethod
    def settled(cls, config: T5Config, weights: Mapping[str, Tensor]) -> T5Config:
        """The config, with `tied` as the weights are."""
        return settled(config, weights)

    def encode(
        self, input_ids: Int[Tensor, "b s"], attention_mask: Shaped[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        return self.encoder(self.embed(input_ids), mask=padding(attention_mask))

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "b t"],
        encoder_output: Float[Tensor, "r s d"],
        attention_mask: Shaped[Tensor, "r s"] | None = None,
        decoder_attention_mask: Shaped[Tensor, "b u"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        mask = Mask.causal() & padding(decoder_attention_mask)
        x = self.embed(decoder_input_ids)
        return self.scale * self.decoder(
            x, encoder_output, mask=mask, context_mask=padding(attention_mask), cache=cache
        )
