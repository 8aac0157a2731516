"""MPT (MosaicML 2023): a decoder without biases, whose only sense of position is ALiBi (Press et al. 2022)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import IGNORED, Compound, ConfigTable
from glassformer.checkpoints.table import Split, Table, Tied
from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.ops.mask import Mask
from glassformer.parts import (
    ALiBi,
    Attention,
    Embedding,
    FeedForward,
    KeyValueCache,
    LayerCache,
    LayerNorm,
    Linear,
    TiedLinear,
)


@dataclass(frozen=True, kw_only=True)
class MPTConfig:
    """The released configurations; the defaults are the 7B model. Hidden layers are four times as wide."""

    vocab_size: int = 50_432
    max_positions: int = 2048
    dim: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    norm_eps: float = 1e-5
    tied: bool = True

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


SIZES = {  # "Introducing MPT-7B" (2023), "MPT-30B: raising the bar" (2023): the tables of the two releases
    "mpt-7b": MPTConfig(),
    "mpt-30b": MPTConfig(max_positions=8192, dim=7168, num_layers=48, num_heads=64),
}


ATTENTION = {  # what their `attn_config` must say, where it says it
    "alibi": True,
    "alibi_bias_max": 8,
    "attn_pdrop": 0,
    "attn_type": "multihead_attention",
    "attn_uses_sequence_id": False,
    "clip_qkv": None,
    "prefix_lm": False,
    "qk_ln": False,
    "softmax_scale": None,
}


def load_attention(attributes: dict[str, Any]) -> dict[str, Any]:
    """Nothing of ours: their `attn_config` may say one thing only. Raises ValueError on others."""
    said: dict[str, Any] = attributes.get("attn_config") or {}
    for name, value in said.items():
        if name not in IGNORED | {"attn_impl", "is_encoder_decoder"} and value != ATTENTION.get(name, "nothing"):
            raise ValueError(f"config.json's attn_config has {name}={value!r}, which is not implemented")
    return {}


CONFIG_TABLE = ConfigTable(
    config=MPTConfig,
    model_type="mpt",
    architectures=("MptForCausalLM", "MptModel", "MPTForCausalLM"),
    names={
        "vocab_size": "vocab_size",
        "max_seq_len": "max_positions",
        "d_model": "dim",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "layer_norm_epsilon": "norm_eps",
        "tie_word_embeddings": "tied",
    },
    defaults={"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
    fixed={"expansion_ratio": 4, "no_bias": True, "logit_scale": None, "resid_pdrop": 0.0, "emb_pdrop": 0.0,
           "embedding_fraction": 1.0},
    # With ALiBi there is no position table; how and where it is computed; what their training code kept here.
    ignored={"learned_pos_emb", "init_device", "norm_type", "auto_map", "init_config", "verbose", "tokenizer_name"},
    compounds=(Compound(("attn_config",), (), load_attention, lambda config: {"attn_config": ATTENTION}),),
)  # fmt: skip


def table(config: MPTConfig) -> Table:
    """The names in Hugging Face's files; they keep q, k, v in one."""
    return {
        "[transformer.]wte": "embed",
        "[transformer.]blocks.*.norm_{1,2}": "blocks.*.{attention,feed_forward}_norm",
        "[transformer.]blocks.*.attn.Wqkv": Split("blocks.*.attention.{query,key,value}"),
        "[transformer.]blocks.*.attn.out_proj": "blocks.*.attention.output",
        "[transformer.]blocks.*.ffn.{up,down}_proj": "blocks.*.feed_forward.{up,down}",
        "[transformer.]norm_f": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class MPTBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), nowhere a bias."""

    def __init__(self, config: MPTConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.attention = Attention(config.dim, config.num_heads, biased="")
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.feed_forward = FeedForward(config.dim, 4 * config.dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        *,
        mask: Mask,
        score_bias: Float[Tensor, "#b h t s"],
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x), mask=mask, score_bias=score_bias, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class MPT(LanguageModel):
    """Embedding, the blocks with one score bias for all, a last norm, and the head (tied to the embedding).

    Nothing in it has a size for each position, so it takes more tokens than it was trained on: `max_positions`.
    """

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: MPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.alibi = ALiBi(config.num_heads)
        self.blocks = nn.ModuleList(MPTBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        queries, mask = positions_and_mask(input_ids, attention_mask, cache)
        if attention_mask is None:
            keys = torch.arange(input_ids.shape[1] + (0 if cache is None else cache.length), device=input_ids.device)
        else:
            keys = ((attention_mask != 0).long().cumsum(-1) - 1).clamp(min=0)
        score_bias = self.alibi(queries, keys)
        x = self.embed(input_ids)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, score_bias=score_bias, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)
