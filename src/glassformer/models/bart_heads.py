"""BART's sequence classifier (Lewis et al. 2019, section 3.1)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import DROP, Table
from glassformer.models.bart import BART, BODY, CONFIG_TABLE, THREE, BARTConfig
from glassformer.models.encoder import inside, looks
from glassformer.models.labels import check_classes, classified, num_classes
from glassformer.models.outputs import PredictionOutput
from glassformer.parts import Dropout, Embedding, Linear

TABLE: Table = {
    **inside(BODY, "bart"), "lm_head": DROP, "final_logits_bias": DROP,
    "classification_head.{dense,out_proj}": "{transform,head}",
}  # fmt: skip


class BARTForSequenceClassification(Pretrained, nn.Module):
    """A class for a text that encoder and decoder both read: head(tanh(transform(the decoder's vector of its end))).

    The end is the last `eos_token_id` of each row. Labels, problems and losses are those of `SequenceClassification`.
    """

    config_table = replace(CONFIG_TABLE, architectures=("BartForSequenceClassification",), within=())
    table = TABLE

    def __init__(self, config: BARTConfig) -> None:
        super().__init__()
        self.config = config
        self.bart = BART(config)
        self.bart.head = nn.Identity()  # it predicts no tokens
        self.dropout = Dropout(config.classifier_dropout)
        self.transform = Linear(config.dim, config.dim)
        self.head = Linear(config.dim, num_classes(config))

    @classmethod
    def settled(cls, config: BARTConfig, weights: Mapping[str, Tensor]) -> BARTConfig:
        """The config; of two classes their files say nothing, which there means three: the weights know."""
        head = weights.get("classification_head.out_proj.bias")
        two = config.labels == THREE and head is not None and len(head) == 2
        return replace(config, labels=None) if two else config

    @classmethod
    def on(cls, bart: BART, **changes: Any) -> Any:
        """A new head on a trained model, whose weights are copied; `changes` are settings, such as `labels`."""
        model, weight = cls(replace(bart.config, **changes)), next(bart.parameters())
        model.to(weight.device, weight.dtype)
        state = bart.state_dict()
        model.bart.load_state_dict({name: state[name] for name in model.bart.state_dict()})
        return model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> PredictionOutput:
        """Logits (b, n); with `labels` the mean loss too.

        Args:
            input_ids: (b, t) token ids, in each row an `eos_token_id`.
            attention_mask: (b, t) with 1 at real tokens and 0 at padding.
            labels: (b,) classes, −100 where none counts; numbers where the config's problem says so.

        Raises:
            ValueError, TypeError: for ids outside the vocabulary, a row without an end, wrong shapes or dtypes.
        """
        self.bart.check_source(input_ids, attention_mask)
        check_classes(labels, input_ids.shape[0], self.config)
        end = self.ends(input_ids)
        encoded = self.bart.encode(input_ids, attention_mask)
        hidden = self.bart.decode(self.bart.shift_right(input_ids), encoded, attention_mask)
        x = hidden[torch.arange(len(end), device=end.device), end]
        x = self.dropout(self.transform(self.dropout(x)).tanh())
        return classified(self.head(x), labels, self.config)

    def ends(self, input_ids: Int[Tensor, "b t"]) -> Int[Tensor, " b"]:
        """Where the last `eos_token_id` of each row stands. Raises ValueError for a row that has none."""
        is_end = input_ids == self.config.eos_token_id
        if looks(input_ids) and not is_end.any(1).all():
            row = int((~is_end.any(1)).nonzero()[0])
            raise ValueError(
                f"row {row} of input_ids has no eos_token_id={self.config.eos_token_id}, where its vector is read"
            )
        return (is_end * torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)).argmax(1)

    @property
    def embed(self) -> Embedding:
        """The embedding of tokens."""
        return self.bart.embed

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


HEADS: dict[str, type] = {"sequence_classification": BARTForSequenceClassification}
