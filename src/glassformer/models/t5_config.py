"""T5's config and sizes, and how Hugging Face's folders name them and the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints.config import Compound, ConfigTable, Variant
from glassformer.checkpoints.table import DROP, Table, Tied
from glassformer.foundation.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Section 3.1 and table 14 of the paper; the defaults are the small model. `num_decoder_layers=None`: as many.

    `scaled`: what goes into the head is multiplied by dim^(−½), as it was where the head is the embedding.
    """

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

    max_positions = forced_bos_token_id = forced_eos_token_id = None

    def __post_init__(self) -> None:
        if self.num_decoder_layers is None:
            object.__setattr__(self, "num_decoder_layers", self.num_encoder_layers)

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads


def _sizes(prefix: str, base: T5Config, shapes: dict[str, tuple[int, int, int, int, int]]) -> dict[str, T5Config]:
    names = "dim", "num_encoder_layers", "num_heads", "head_dim", "hidden_dim"
    return {
        f"{prefix}-{size}": replace(base, num_decoder_layers=shape[1], **dict[str, Any](zip(names, shape, strict=True)))
        for size, shape in shapes.items()
    }


V1_1 = T5Config(feed_forward="gated-gelu", tied=False, scaled=False)
V1_1_SHAPES = {
    "small": (512, 8, 6, 64, 1024), "base": (768, 12, 12, 64, 2048), "large": (1024, 24, 16, 64, 2816),
    "xl": (2048, 24, 32, 64, 5120), "xxl": (4096, 24, 64, 64, 10_240),
}  # fmt: skip
SIZES = {  # T5, section 3.7; T5 1.1, its release; mT5, section 3.2 of its paper; UMT5, its release
    **_sizes("t5", T5Config(), {
        "small": (512, 6, 8, 64, 2048), "base": (768, 12, 12, 64, 3072), "large": (1024, 24, 16, 64, 4096),
        "3b": (1024, 24, 32, 128, 16_384), "11b": (1024, 24, 128, 128, 65_536),
    }),
    **_sizes("t5-v1.1", V1_1, V1_1_SHAPES),
    **_sizes("mt5", replace(V1_1, vocab_size=250_112), V1_1_SHAPES),
    **_sizes("umt5", replace(V1_1, vocab_size=256_384, bias_per_layer=True),
             {size: V1_1_SHAPES[size] for size in ("small", "base", "xl", "xxl")}),
}  # fmt: skip


# What the name says, as their files repeat it: the activation, and whether it gates.
FEED_FORWARDS = {"relu": ("relu", False), "gated-gelu": ("gelu_new", True), "gated-silu": ("silu", True)}


def _load_feed_forward(attributes: dict[str, Any]) -> dict[str, Any]:
    """The feed-forward layer's name. Their classes believe the attributes beside it, so these must say the same."""
    name = attributes.get("feed_forward_proj", "relu")
    if name not in FEED_FORWARDS:
        raise ValueError(f"feed_forward_proj={name!r} is not implemented{did_you_mean(str(name), FEED_FORWARDS)}")
    for beside, implied in zip(("dense_act_fn", "is_gated_act"), FEED_FORWARDS[name], strict=True):
        if (value := attributes.get(beside, implied)) != implied:
            raise ValueError(f"config.json has {beside}={value!r} beside feed_forward_proj={name!r}; only {implied!r} "
                             "is implemented there")  # fmt: skip
    return {"feed_forward": name}


def _load_head(attributes: dict[str, Any]) -> dict[str, Any]:
    """They scale where the head is tied; what transformers 5 writes says it apart.

    The published UMT5 is not scaled, and not tied. transformers 5 (not 4) scales it all the same, by its dim^(−½).
    """
    tied = attributes.get("tie_word_embeddings", True)
    return {"tied": tied, "scaled": attributes.get("scale_decoder_outputs", tied)}


def _save_head(config: T5Config) -> dict[str, Any]:
    return {"tie_word_embeddings": config.tied, "scale_decoder_outputs": config.scaled}


CONFIG_TABLE = ConfigTable(
    config=T5Config,
    model_type="t5",
    architectures=("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model", "MT5ForConditionalGeneration",
                   "MT5Model", "UMT5ForConditionalGeneration", "UMT5Model"),
    names={
        "vocab_size": "vocab_size",
        "d_model": "dim",
        "num_layers": "num_encoder_layers",
        "num_decoder_layers": "num_decoder_layers",
        "num_heads": "num_heads",
        "d_kv": "head_dim",
        "d_ff": "hidden_dim",
        "relative_attention_num_buckets": "num_buckets",
        "relative_attention_max_distance": "max_distance",
        "layer_norm_epsilon": "norm_eps",
        "dropout_rate": "dropout",
        "decoder_start_token_id": "decoder_start_token_id",
        "pad_token_id": "pad_token_id",
        "eos_token_id": "eos_token_id",
    },
    defaults={"num_decoder_layers": None, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
              "layer_norm_epsilon": 1e-6, "dropout_rate": 0.1, "decoder_start_token_id": 0, "pad_token_id": 0,
              "eos_token_id": 1},
    fixed={"is_encoder_decoder": True},
    # Lengths seen in training limit nothing; the dropout is that of their other heads.
    ignored={"n_positions", "output_past", "classifier_dropout"},
    compounds=(
        Compound(("feed_forward_proj", "dense_act_fn", "is_gated_act"), ("feed_forward",), _load_feed_forward,
                 lambda config: {"feed_forward_proj": config.feed_forward}),
        Compound(("tie_word_embeddings", "scale_decoder_outputs"), ("tied", "scaled"), _load_head, _save_head),
    ),
    unsayable={"bias_per_layer": False},
    variants={"mt5": Variant("MT5ForConditionalGeneration", {"scaled": False}),
              "umt5": Variant("UMT5ForConditionalGeneration", {"bias_per_layer": True})},
)  # fmt: skip


def table(config: T5Config) -> Table:
    """The names in Hugging Face's files; the one bias that all blocks share stands in the first."""
    both, gated = "{encoder,decoder}", config.feed_forward.startswith("gated")
    cross = "decoder.block.*.layer.1.EncDecAttention"
    theirs, ours = ("{wi_0,wi_1,wo}", "{gate,up,down}") if gated else ("{wi,wo}", "{up,down}")
    return {
        "shared": "embed",
        f"{both}.embed_tokens": Tied("{embed,embed}"),
        f"{both}.block.*.layer.0.SelfAttention.{{q,k,v,o}}": f"{both}.blocks.*.attention.{{query,key,value,output}}",
        f"{both}.block.*.layer.0.SelfAttention.relative_attention_bias": f"{both}.biases.*",
        f"{both}.block.*.layer.0.layer_norm": f"{both}.blocks.*.attention_norm",
        f"{cross}.{{q,k,v,o}}": "decoder.blocks.*.cross_attention.{query,key,value,output}",
        f"{cross}.relative_attention_bias": DROP,  # in old files, and never read
        "decoder.block.*.layer.1.layer_norm": "decoder.blocks.*.cross_attention_norm",
        f"encoder.block.*.layer.1.DenseReluDense.{theirs}": f"encoder.blocks.*.feed_forward.{ours}",
        "encoder.block.*.layer.1.layer_norm": "encoder.blocks.*.feed_forward_norm",
        f"decoder.block.*.layer.2.DenseReluDense.{theirs}": f"decoder.blocks.*.feed_forward.{ours}",
        "decoder.block.*.layer.2.layer_norm": "decoder.blocks.*.feed_forward_norm",
        f"{both}.final_layer_norm": f"{both}.norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


def settled(config: T5Config, weights: Mapping[str, Tensor]) -> T5Config:
    """transformers 5 says `tie_word_embeddings` of every T5; whether the head is the embedding, its weights tell."""
    head, embeds = "lm_head.weight", ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    embed = next((name for name in embeds if name in weights), None)
    if not config.tied or head not in weights or embed is None or torch.equal(weights[head], weights[embed]):
        return config
    return replace(config, tied=False)
