"""BERT's heads (Devlin et al. 2018) by hand: masked tokens (section 3.1), and a class for a text (section 4.1)."""

from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names
from glassformer.by_hand.models.bert import BERT, BERTConfig, bert_names, both, read_bert_config
from glassformer.by_hand.models.pretrained import Pretrained
from glassformer.by_hand.parts.activation import ACTIVATIONS, Activation
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.linear import Linear, TiedLinear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import LayerNorm


class HeadTransform(Module):
    """norm(activation(dense(x))): what stands between an encoder and the vocabulary."""

    def __init__(self, dim: int, norm: LayerNorm, *, activation: Activation) -> None:
        self.dense = Linear(dim, dim)
        self.activation = activation
        self.norm = norm

    def forward(self, x: Array) -> Array:
        self._u = self.dense(x)
        return self.norm(self.activation(self._u))

    def backward(self, dy: Array) -> Array:
        return self.dense.backward(self.norm.backward(dy) * self.activation.slope(self._u))


class BERTForMaskedLM(Pretrained):
    """The tokens that were masked, from those around them (section 3.1, task 1)."""

    architecture = "BertForMaskedLM"

    def __init__(self, config: BERTConfig, *, seed: int | None = 0) -> None:
        self.config = config
        self.encoder = BERT(config, seed=None, pooled=False)
        norm = LayerNorm(config.dim, config.norm_eps)
        self.transform = HeadTransform(config.dim, norm, activation=ACTIVATIONS[config.activation])
        embed = self.encoder.embed
        self.head = TiedLinear(embed, bias=True) if config.tied else Linear(config.dim, config.vocab_size)
        if seed is not None:
            self.initialize(seed)

    def forward(
        self, input_ids: Array, attention_mask: Array | None = None, token_type_ids: Array | None = None
    ) -> Array:
        """Logits (b, t, v). The loss: `cross_entropy(logits, labels)`, labels −100 where no token was masked."""
        hidden, _ = self.encoder(input_ids, attention_mask, token_type_ids)
        return self.head(self.transform(hidden))

    def backward(self, d_logits: Array) -> None:
        self.encoder.backward(self.transform.backward(self.head.backward(d_logits)))

    read_config = staticmethod(read_bert_config)

    @staticmethod
    def names(config: BERTConfig) -> Names:
        there = "cls.predictions"
        names = bert_names(config, "encoder.") | both(f"{there}.transform.dense", "transform.dense")
        names |= both(f"{there}.transform.LayerNorm", "transform.norm")
        return names | ({f"{there}.bias": "head.bias"} if config.tied else both(f"{there}.decoder", "head"))


class BERTForSequenceClassification(Pretrained):
    """A class for the whole text: a linear layer on the pooled first token (section 4.1)."""

    architecture = "BertForSequenceClassification"

    def __init__(self, config: BERTConfig, *, seed: int | None = 0) -> None:
        self.config = config
        self.encoder = BERT(config, seed=None)
        self.dropout = Dropout(config.dropout if config.classifier_dropout is None else config.classifier_dropout)
        self.head = Linear(config.dim, 2 if config.labels is None else len(config.labels))
        if seed is not None:
            self.initialize(seed)

    def forward(
        self, input_ids: Array, attention_mask: Array | None = None, token_type_ids: Array | None = None
    ) -> Array:
        """Logits (b, n). The loss: `cross_entropy(logits, classes)`."""
        _, pooled = self.encoder(input_ids, attention_mask, token_type_ids)
        return self.head(self.dropout(pooled))

    def backward(self, d_logits: Array) -> None:
        self.encoder.backward(None, self.dropout.backward(self.head.backward(d_logits)))

    read_config = staticmethod(read_bert_config)

    @staticmethod
    def names(config: BERTConfig) -> Names:
        names = bert_names(config, "encoder.") | both("pooler.dense", "encoder.pooler.dense")
        return names | both("classifier", "head")
