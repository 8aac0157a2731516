"""BERT, GPT and T5 by name, called as in their first releases: `bert(input_ids)` gives three things."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.models import GPT, GPT2, bert_heads
from glassformer.models.bert import BERT, BERTConfig
from glassformer.models.catalog import changed, create_model, model_config
from glassformer.models.outputs import Output, PredictionOutput, SequenceToSequenceOutput
from glassformer.models.t5 import T5, T5Config
from glassformer.tracing import listening_to_attention

GPTModel = GPT2
"""The library's GPT-2, handed on as it is: `GPTModel(GPT2Config(...))`. `gpt_small` is the paper before it."""


@dataclass
class BERTOutput(Output):
    """Unpacks as `sequence_output, pooled_output, attention_probs`; the last has an entry for each layer."""

    sequence_output: Float[Tensor, "b t d"]
    pooled_output: Float[Tensor, "b d"]
    attention_probs: tuple[Float[Tensor, "b h t t"], ...]


class BERTModel(nn.Module):
    """`glassformer.models.BERT`, held as `model`; settings are those of `BERTConfig`."""

    def __init__(self, config: BERTConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = BERT(changed(config or BERTConfig(), settings))

    @property
    def config(self) -> BERTConfig:
        """The config that the model was built from."""
        return self.model.config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> BERTOutput:
        """Vectors of the tokens (b, t, d) and of the whole (b, d), and each layer's attention weights (b, h, t, t).

        Weights are formed by the reference kernel alone, which therefore runs here; they are those before dropout.
        `model(input_ids)` is quicker and gives no weights.
        """
        with listening_to_attention(self.model) as weights:
            encoded = self.model(input_ids, attention_mask, token_type_ids, dense=True)
        return BERTOutput(encoded.last_hidden_state, encoded.pooler_output, tuple(weights.values()))


class BERTForMaskedLM(nn.Module):
    """`glassformer.models.BERTForMaskedLM`, held as `model`, with its labels under their first name."""

    def __init__(self, config: BERTConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = bert_heads.BERTForMaskedLM(changed(config or BERTConfig(), settings))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        masked_lm_labels: Tensor | None = None,
    ) -> PredictionOutput:
        """`["logits"]` (b, t, v), and `["loss"]` where labels are given: the token at each place, or −100."""
        return self.model(input_ids, attention_mask, masked_lm_labels, token_type_ids)


class BERTForSequenceClassification(nn.Module):
    """`glassformer.models.BERTForSequenceClassification`, held as `model`, for `num_labels` classes without names."""

    def __init__(self, config: BERTConfig | None = None, *, num_labels: int = 2, **settings: Any) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels={num_labels} leaves nothing to tell apart; expected 1 or more")
        settings = {"labels": tuple(f"LABEL_{i}" for i in range(num_labels))} | settings
        self.model = bert_heads.BERTForSequenceClassification(changed(config or BERTConfig(), settings))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> PredictionOutput:
        """`["logits"]` (b, num_labels), and `["loss"]` where labels (b,) are given."""
        return self.model(input_ids, attention_mask, labels, token_type_ids)


class T5Model(nn.Module):
    """`glassformer.models.T5`, held as `model`, with the target's ids beside the source's."""

    def __init__(self, config: T5Config | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = T5(changed(config or T5Config(), settings))

    @property
    def config(self) -> T5Config:
        """The config that the model was built from."""
        return self.model.config

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
    ) -> SequenceToSequenceOutput:
        """`["logits"]` (b, t, v), and `["loss"]` where labels (b, t), what place i must predict, are given.

        Without `decoder_input_ids` they are the labels shifted right.
        """
        return self.model(
            input_ids, attention_mask, decoder_input_ids, labels, decoder_attention_mask=decoder_attention_mask
        )

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
        """Targets for the sources; the options are those of `glassformer.generation.generate`."""
        return self.model.generate(input_ids, attention_mask, **options)


def bert_base(**settings: Any) -> BERTModel:
    """BERT-base: 110 million parameters (Devlin et al. 2018)."""
    return BERTModel(model_config("bert-base", **settings))


def bert_large(**settings: Any) -> BERTModel:
    """BERT-large: 340 million parameters (Devlin et al. 2018)."""
    return BERTModel(model_config("bert-large", **settings))


def gpt_small(**settings: Any) -> GPT:
    """GPT: 117 million parameters, normalised after each sub-layer (Radford et al. 2018)."""
    return create_model("gpt", **settings)


def gpt2_small(**settings: Any) -> GPT2:
    """GPT-2, the smallest: 124 million parameters (Radford et al. 2019)."""
    return create_model("gpt2", **settings)


def gpt2_medium(**settings: Any) -> GPT2:
    """GPT-2 medium: 355 million parameters."""
    return create_model("gpt2-medium", **settings)


def gpt2_large(**settings: Any) -> GPT2:
    """GPT-2 large: 774 million parameters."""
    return create_model("gpt2-large", **settings)


def gpt2_xl(**settings: Any) -> GPT2:
    """GPT-2 XL: 1558 million parameters."""
    return create_model("gpt2-xl", **settings)


def t5_small(**settings: Any) -> T5Model:
    """T5-small: 60 million parameters (Raffel et al. 2020)."""
    return T5Model(model_config("t5-small", **settings))


def t5_base(**settings: Any) -> T5Model:
    """T5-base: 223 million parameters."""
    return T5Model(model_config("t5-base", **settings))


def t5_large(**settings: Any) -> T5Model:
    """T5-large: 738 million parameters."""
    return T5Model(model_config("t5-large", **settings))


def t5_xl(**settings: Any) -> T5Model:
    """The size that T5's releases call 3B: 2852 million parameters."""
    return T5Model(model_config("t5-3b", **settings))
