"""ModernBERT (Warner et al. 2024): BERT with what decoders learned since; two layers look near, then one far."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Split, Table
from glassformer.models.encoder import Encoder
from glassformer.models.labels import LABELS, PROBLEM
from glassformer.models.rope import load_rope
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, Dropout, Embedding, GatedFeedForward, LayerNorm, Rotary, Rotation


@dataclass(frozen=True, kw_only=True)
class ModernBERTConfig:
    """Table 4 of the paper; the defaults are the base model.

    Layers 0, `global_every`, 2 · `global_every`, … see all and turn by `rope_base`; the others see `window_size` // 2
    tokens on each side and turn by `local_rope_base`. `pooling` of a sequence classifier is "cls", the first token, or
    "mean", of all; `labels` and `problem` are those of `BERTConfig`.
    """

    vocab_size: int = 50_368
    max_positions: int = 8192
    dim: int = 768
    num_layers: int = 22
    num_heads: int = 12
    hidden_dim: int = 1152
    window_size: int = 128
    global_every: int = 3
    rope_base: float = 160_000.0
    local_rope_base: float = 10_000.0
    activation: str = "gelu"
    norm_eps: float = 1e-5
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.0
    classifier_activation: str = "gelu"
    pooling: str = "mean"
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    tied: bool = True

    @property
    def layer_types(self) -> list[str]:
        """What their config calls each layer."""
        return layer_types(self.num_layers, self.global_every)


def layer_types(num_layers: int, global_every: int) -> list[str]:
    """Their names of the layers: one that is full, then those that slide, and again."""
    return ["sliding_attention" if i % global_every else "full_attention" for i in range(num_layers)]


SIZES = {  # table 4
    "modernbert-base": ModernBERTConfig(),
    "modernbert-large": ModernBERTConfig(dim=1024, num_layers=28, num_heads=16, hidden_dim=2624),
}


def load_positions(attributes: dict[str, Any]) -> dict[str, Any]:
    """The rotations of both kinds of layers; the first files have a base for each. Raises ValueError for scalings."""
    both = {**(attributes.get("rope_parameters") or {})}
    bases = {}
    for kind, older, base in (
        ("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)
    ):  # fmt: skip
        said = {"rope_theta": attributes.get(older) or base} | (both.pop(kind, None) or {})
        rope = load_rope({"rope_parameters": said})
        if rope["rope_scaling"] is not None:
            raise ValueError(f"config.json has rope_parameters of {said}; only the default rotation is implemented")
        bases[kind] = rope["rope_base"]
    if both:
        raise ValueError(f"config.json has rope_parameters of {both}, which is not implemented")
    return {"rope_base": bases["full_attention"], "local_rope_base": bases["sliding_attention"]}


def save_positions(config: ModernBERTConfig) -> dict[str, Any]:
    """`rope_parameters` of both kinds of layers."""
    bases = {"full_attention": config.rope_base, "sliding_attention": config.local_rope_base}
    return {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}}


def load_layers(attributes: dict[str, Any]) -> dict[str, Any]:
    """`global_every`, from the list of layers or from its older short form. Raises ValueError without such a rhythm."""
    every, kinds = attributes.get("global_attn_every_n_layers", 3), attributes.get("layer_types")
    if kinds is not None:
        far = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        every = far[1] if len(far) > 1 else max(len(kinds), 1)
        if kinds != layer_types(len(kinds), every):
            raise ValueError(f"config.json has layer_types={kinds}, in which not each {every}th layer alone is full")
    return {"global_every": every}


CONFIG_TABLE = ConfigTable(
    config=ModernBERTConfig,
    model_type="modernbert",
    architectures=("ModernBertModel",),
    within=("ModernBertForMaskedLM", "ModernBertForSequenceClassification", "ModernBertForTokenClassification",
            "ModernBertForQuestionAnswering", "ModernBertForMultipleChoice"),
    names={
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_positions",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "hidden_dim",
        "local_attention": "window_size",
        "hidden_activation": Values("activation", ACTIVATION_NAMES),
        "norm_eps": "norm_eps",
        "embedding_dropout": "embedding_dropout",
        "attention_dropout": "attention_dropout",
        "classifier_dropout": "classifier_dropout",
        "classifier_activation": Values("classifier_activation", ACTIVATION_NAMES),
        "classifier_pooling": Values("pooling", {"cls": "cls", "mean": "mean"}),
        "problem_type": PROBLEM,
        "tie_word_embeddings": "tied",
    },
    defaults={"max_position_embeddings": 8192, "local_attention": 128, "hidden_activation": "gelu", "norm_eps": 1e-5,
              "embedding_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0,
              "classifier_activation": "gelu", "classifier_pooling": "cls", "problem_type": None,
              "tie_word_embeddings": True},
    fixed={"norm_bias": False, "attention_bias": False, "mlp_bias": False, "classifier_bias": False,
           "decoder_bias": True, "mlp_dropout": 0.0},
    # How weights were drawn and their kernels run; logits left out where no label counts; and what BERT's config has.
    ignored={"initializer_cutoff_factor", "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad",
             "sparse_prediction", "sparse_pred_ignore_index", "layer_norm_eps", "position_embedding_type"},
    compounds=(
        LABELS,
        Compound(("rope_parameters", "global_rope_theta", "local_rope_theta"), ("rope_base", "local_rope_base"),
                 load_positions, save_positions),
        Compound(("layer_types", "global_attn_every_n_layers"), ("global_every",), load_layers,
                 lambda config: {"layer_types": config.layer_types}),
    ),
)  # fmt: skip

ENCODER: Table = {
    "[model.]embeddings.{tok_embeddings,norm}": "{embed,embed_norm}",
    "[model.]layers.*.{attn_norm,mlp_norm}": "blocks.*.{attention,feed_forward}_norm",
    "[model.]layers.*.attn.Wqkv": Split("blocks.*.attention.{query,key,value}"),
    "[model.]layers.*.attn.Wo": "blocks.*.attention.output",
    "[model.]layers.*.mlp.Wi": Split("blocks.*.feed_forward.{gate,up}"),
    "[model.]layers.*.mlp.Wo": "blocks.*.feed_forward.down",
    "[model.]final_norm": "norm",
}
TABLE: Table = {**ENCODER, "{head.dense,head.norm,decoder,classifier}": DROP}


class ModernBERTBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), no biases; the first has no attention norm: the
    embedding's stands right before it (section 2.1.1)."""

    def __init__(self, config: ModernBERTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.dim, config.norm_eps, bias=False) if layer else nn.Identity()
        self.attention = Attention(config.dim, config.num_heads, biased="", dropout=config.attention_dropout)
        self.dropout = Dropout(config.attention_dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.feed_forward = GatedFeedForward(config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation])

    def forward(self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, rotate=rotate))
        return x + self.feed_forward(self.feed_forward_norm(x))


class ModernBERT(Encoder):
    """The embedding, normalised; the blocks, far and near by turns; a last norm. No pooler, no segments."""

    config_table = CONFIG_TABLE
    table = TABLE

    def __init__(self, config: ModernBERTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.embed_norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.dropout = Dropout(config.embedding_dropout)
        self.rotary = Rotary(config.dim // config.num_heads, base=config.rope_base)
        self.local_rotary = Rotary(config.dim // config.num_heads, base=config.local_rope_base)
        self.blocks = nn.ModuleList(ModernBERTBlock(config, layer) for layer in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps, bias=False)
        self.pooler = None

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        mask: Mask,
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        far = mask, self.rotary(positions)
        near = mask & Mask.window(self.config.window_size // 2 + 1), self.local_rotary(positions)
        x = self.dropout(self.embed_norm(self.embed(input_ids)))
        for layer, block in enumerate(self.blocks):
            layer_mask, rotate = near if layer % self.config.global_every else far
            x = block(x, mask=layer_mask, rotate=rotate)
        return self.norm(x)
