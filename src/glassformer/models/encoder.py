"""What every text encoder shares: from token ids to a vector for each. The heads on it are in heads.py."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models.language_model import check_range
from glassformer.models.outputs import EncoderOutput
from glassformer.ops.mask import Mask
from glassformer.parts import Embedding


class Encoder(nn.Module, Pretrained, ABC):
    """A bidirectional encoder: a vector for each token, which has seen all the others.

    A model writes `__init__` (setting `config`, `embed`, `blocks`, `pooler`) and `hidden`; this class adds the checks
    and the mask. Configs have `vocab_size`. What stands at padded places of the output is unspecified.
    """

    config: Any
    embed: Embedding
    blocks: nn.ModuleList
    pooler: nn.Module | None  # makes one vector of the first token's; None where there is none

    @abstractmethod
    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        mask: Mask,
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        """The last hidden states of tokens that stand at `positions` and see each other by `mask`."""

    def positions(self, input_ids: Int[Tensor, "b t"]) -> Int[Tensor, "*b t"]:
        """Where each token stands: 0 … t − 1, padding or not."""
        return torch.arange(input_ids.shape[1], device=input_ids.device)

    @property
    def max_tokens(self) -> int | None:
        """The longest input; None where there is no limit."""
        return None

    @property
    def num_segments(self) -> int:
        """How many token types there are; 1 where the model knows no difference."""
        return 1

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> EncoderOutput:
        """A vector for each token (b, t, d), and one for the whole (b, d) where the model has a pooler.

        Args:
            input_ids: (b, t) token ids.
            attention_mask: (b, t) with 1 at real tokens and 0 at padding, on whichever side.
            token_type_ids: (b, t), which of two texts a token is of; None: the first.

        Raises:
            ValueError, TypeError: for ids outside their ranges, wrong shapes or dtypes, too many tokens.
        """
        self._check(input_ids, attention_mask, token_type_ids)
        mask = Mask() if attention_mask is None else Mask.padding(attention_mask != 0)
        x = self.hidden(input_ids, self.positions(input_ids), mask, token_type_ids)
        return EncoderOutput(x, None if self.pooler is None else self.pooler(x[:, 0]))

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check(self, ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> None:
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, tokens), neither of them 0")
        for name, given in (("input_ids", ids), ("token_type_ids", token_type_ids)):
            if given is not None and given.dtype not in (torch.int64, torch.int32):
                raise TypeError(f"{name} has dtype {given.dtype}; expected torch.int64 ids")
        for name, given in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            if given is not None and given.shape != ids.shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {tuple(ids.shape)}, as input_ids")
        if self.max_tokens is not None and ids.shape[1] > self.max_tokens:
            raise ValueError(
                f"{ids.shape[1]} tokens do not fit into the model's {self.max_tokens} positions; shorten the input"
            )
        if looks(ids):
            check_range("input_ids", ids, self.config.vocab_size)
            if token_type_ids is not None:
                check_range("token_type_ids", token_type_ids, self.num_segments, of="the model")


def inside(table: Table) -> Table:
    """An encoder's table as its heads have it: each of ours under `encoder.`."""
    return {
        theirs: None if rule is None else f"encoder.{rule}" if isinstance(rule, str)
        else replace(rule, ours=f"encoder.{rule.ours}")
        for theirs, rule in table.items()
    }  # fmt: skip


def looks(ids: Tensor) -> bool:
    """Whether values may be looked at: elsewhere it waits for an accelerator or breaks a compiled graph."""
    return ids.device.type == "cpu" and not torch.compiler.is_compiling()
