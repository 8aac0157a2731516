"""The smallest model that has everything a checkpoint can ask for: layers, a split, a transpose, a tie, buffers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.folders import read_json, write_json
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import DROP, Split, Table, Tied, Transpose


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    vocab_size: int = 11
    dim: int = 4
    num_layers: int = 2
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    head_dim: int | None = None
    base: float = 10.0
    scaling: float | None = None
    tied: bool = True
    shiny: bool = False


def load_rope(attributes: dict[str, Any]) -> dict[str, Any]:
    rope = attributes.get("rope", {})
    if odd := set(rope) - {"base", "scaling"}:
        raise ValueError(f"rope has {sorted(odd)}, which is not implemented")
    return {"base": rope.get("base", 10.0), "scaling": rope.get("scaling")}


TOY_CONFIG = ConfigTable(
    config=ToyConfig,
    model_type="toy",
    architectures=("ToyLMHead", "ToyBase"),
    names={
        "vocab_size": "vocab_size",
        "n_embd": "dim",
        "n_layer": "num_layers",
        "act": Values("activation", ACTIVATION_NAMES),
        "eps": "norm_eps",
        "head_dim": "head_dim",
        "tie_word_embeddings": "tied",
    },
    defaults={"head_dim": None, "tie_word_embeddings": True},
    fixed={"scale_attn": True},
    ignored={"n_ctx"},
    compounds=(
        Compound(
            ("rope",),
            ("base", "scaling"),
            load_rope,
            lambda config: {"rope": {"base": config.base, "scaling": config.scaling}},
        ),
    ),
    unsayable={"shiny": False},
)


def toy_table(config: ToyConfig) -> Table:
    return {
        "[toy.]wte": "embed",
        "[toy.]h.*.attn.c_attn": Split("blocks.*.{query,key,value}", transpose=True),
        "[toy.]h.*.attn.bias": DROP,
        "[toy.]h.*.proj": Transpose("blocks.*.output"),
        "[toy.]h.*.steps": "blocks.*.steps",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class ToyBlock(nn.Module):
    steps: Tensor
    angles: Tensor

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("angles", torch.arange(config.dim) / config.base, persistent=False)
        self.base = config.base
        self.dropout = nn.Dropout(0.5)

    def reset_buffers(self, device: torch.device) -> None:
        self.angles = torch.arange(len(self.angles), device=device) / self.base


class Toy(Pretrained, nn.Module):
    config_table = TOY_CONFIG
    table = staticmethod(toy_table)

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(ToyBlock(config) for _ in range(config.num_layers))
        if not config.tied:
            self.head = nn.Linear(config.dim, config.vocab_size, bias=False)


def toy(**changes: Any) -> Toy:
    model = Toy(ToyConfig(**changes))
    model.blocks[0].steps += 3
    return model


def their_folder(folder: Path, **changes: Any) -> Path:
    """A folder as another library writes it: no digests, no texts of ours."""
    toy(**changes).save_pretrained(folder, digests=False)
    return folder


def change_weights(folder: Path, **tensors: Tensor | None) -> None:
    """Put other tensors in a folder's file (None removes one); `__` stands for a dot."""
    state = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        state.pop(name.replace("__", "."), None)
        if tensor is not None:
            state[name.replace("__", ".")] = tensor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **attributes: Any) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | attributes)
