"""The bigram model: the next token from the last one alone. The baseline that attention must beat."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import own_table
from glassformer.checkpoints.table import Table
from glassformer.models.language_model import LanguageModel
from glassformer.parts import Embedding, KeyValueCache


@dataclass(frozen=True, kw_only=True)
class BigramConfig:
    """A bigram has no size but that of its vocabulary."""

    vocab_size: int = 50_257
    max_positions: int | None = None  # it looks back one token only, wherever it stands


TABLE: Table = {"embed": "embed"}  # no public library has a bigram model: the names in its files are ours


class Bigram(LanguageModel):
    """logits = W[token], with W of shape (v, v): row i is log p(next | i), up to a constant."""

    config_table = own_table(BigramConfig, "glassformer-bigram", "Bigram")
    table = TABLE

    def __init__(self, config: BigramConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.vocab_size)
        self.head = nn.Identity()

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t v"]:
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.embed(input_ids)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KeyValueCache:
        """A cache of no layers: it only counts tokens."""
        weight = self.embed.weight
        return KeyValueCache(0, batch_size, 1, capacity or 2**31, 1, dtype=weight.dtype, device=weight.device)

    @torch.no_grad()
    def fit(self, tokens: Int[Tensor, "n"], *, smoothing: float = 1.0) -> "Bigram":
        """The maximum of the likelihood, by counting: W[i, j] = log (count(i, j) + smoothing), normalised by row."""
        pairs = torch.zeros(self.config.vocab_size**2, dtype=torch.float64)
        pairs += torch.bincount(tokens[:-1] * self.config.vocab_size + tokens[1:], minlength=pairs.numel())
        counts = pairs.view_as(self.embed.weight) + smoothing
        self.embed.weight.copy_((counts / counts.sum(-1, keepdim=True)).log())
        return self
