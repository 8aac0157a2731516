"""Encoders with their heads that declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
from declaration import IGNORE, LENGTH, VOCAB, Declared, Inputs, Kind, pad_text
from torch import Generator

from glassformer.models.bert import BERTConfig
from glassformer.models.bert_heads import (
    BERTForMaskedLM,
    BERTForNextSentencePrediction,
    BERTForPreTraining,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from glassformer.models.distilbert import (
    DistilBERTConfig,
    DistilBERTForMaskedLM,
    DistilBERTForSequenceClassification,
)
from glassformer.models.labels import num_classes
from glassformer.models.modernbert import ModernBERTConfig
from glassformer.models.modernbert_heads import (
    ModernBERTForMaskedLM,
    ModernBERTForSequenceClassification,
    ModernBERTForTokenClassification,
)
from glassformer.models.roberta import RoBERTaConfig, RoBERTaForMaskedLM, RoBERTaForSequenceClassification

# -- what goes in and comes out ----------------------------------------------------------------------------------------


def _texts(config: Any, batch: int, generator: Generator) -> Inputs:
    """Ids that are not RoBERTa's pad, nor become it when the tests exchange them; the second half is another text."""
    inputs = {"input_ids": torch.randint(2, config.vocab_size - 7, (batch, LENGTH), generator=generator)}
    if getattr(config, "num_segments", 1) > 1:
        inputs["token_type_ids"] = (torch.arange(LENGTH) >= torch.arange(batch)[:, None] + 7).long()
    return inputs


def _masked(config: Any, batch: int, generator: Generator) -> Inputs:
    inputs = _texts(config, batch, generator)
    labels = torch.randint(config.vocab_size, (batch, LENGTH), generator=generator)
    return inputs | {"labels": labels.masked_fill(torch.rand(batch, LENGTH, generator=generator) < 0.4, IGNORE)}


def _tagged(config: Any, batch: int, generator: Generator) -> Inputs:
    inputs = _texts(config, batch, generator)
    labels = torch.randint(num_classes(config), (batch, LENGTH), generator=generator)
    return inputs | {"labels": labels.masked_fill(torch.rand(batch, LENGTH, generator=generator) < 0.2, IGNORE)}


def _classified(config: Any, batch: int, generator: Generator) -> Inputs:
    labels = torch.randint(num_classes(config), (batch,), generator=generator)
    return _texts(config, batch, generator) | {"labels": labels}


def _next_sentence(config: Any, batch: int, generator: Generator) -> Inputs:
    return _texts(config, batch, generator) | {"labels": torch.arange(batch) % 2}


def _both_tasks(config: Any, batch: int, generator: Generator) -> Inputs:
    return _masked(config, batch, generator) | {"next_sentence_label": torch.arange(batch) % 2}


def _answered(config: Any, batch: int, generator: Generator) -> Inputs:
    start = torch.randint(LENGTH // 2, (batch,), generator=generator)
    return _texts(config, batch, generator) | {"start_positions": start, "end_positions": start + 3}


def _pad_behind_the_first(inputs: Inputs, places: slice) -> Inputs:
    """The first place stays: what reads it reads padding else, here as in their models."""
    return pad_text(inputs, slice(1, places.stop) if places.start == 0 and places.stop < LENGTH else places)


def _pad_unlabelled(inputs: Inputs, places: slice) -> Inputs:
    present = torch.ones_like(inputs["input_ids"])
    present[1, places] = 0
    return inputs | {"attention_mask": present}


MASKED_LM = Kind("masked language model", _masked, pad_text, ("logits",))
TAGGING = Kind("token classification", _tagged, pad_text, ("logits",))
CLASSIFICATION = Kind("sequence classification", _classified, _pad_behind_the_first)
NEXT_SENTENCE = Kind("next sentence", _next_sentence, _pad_behind_the_first)
BOTH_TASKS = Kind(
    "pretraining", _both_tasks, _pad_behind_the_first, ("prediction_logits",), ("labels", "next_sentence_label")
)
ANSWERS = Kind(
    "question answering", _answered, _pad_unlabelled, ("start_logits", "end_logits"),
    ("start_positions", "end_positions"),
)  # fmt: skip


# -- the models --------------------------------------------------------------------------------------------------------

_SHAPE = dict(vocab_size=VOCAB, max_positions=48, dim=32, num_layers=3, num_heads=4, hidden_dim=56)
_THEIR_SHAPE = dict(
    vocab_size=VOCAB, max_position_embeddings=48, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=56, pad_token_id=None,
)  # fmt: skip
_NO_TOKENS = dict(bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None)
_NAMES = ("up", "down", "strange")
_THEIR_NAMES = dict(id2label=dict(enumerate(_NAMES)), label2id={name: i for i, name in enumerate(_NAMES)})


def _theirs(family: str, head: str, **shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, f"{family}For{head}")(getattr(transformers, f"{family}Config")(**shape))

    return make


def _bert(head: str, **changes: Any) -> Callable[[], Any]:
    return _theirs("Bert", head, **_THEIR_SHAPE | changes)


def _roberta(head: str, **changes: Any) -> Callable[[], Any]:
    shape = _THEIR_SHAPE | dict(pad_token_id=1, type_vocab_size=1, bos_token_id=None, eos_token_id=None)
    return _theirs("Roberta", head, **shape | changes)


def _distilbert(head: str, **changes: Any) -> Callable[[], Any]:
    shape = dict(vocab_size=VOCAB, max_position_embeddings=48, dim=32, n_layers=3, n_heads=4, hidden_dim=56)
    return _theirs("DistilBert", head, **shape | dict(pad_token_id=None) | changes)


def _modernbert(head: str, **changes: Any) -> Callable[[], Any]:
    return _theirs("ModernBert", head, **_THEIR_SHAPE | _NO_TOKENS | dict(local_attention=6) | changes)


_UNTIED = {"tied_weights_stay_tied": "nothing of this head is tied"}

ENCODERS = [
    Declared("bert", BERTForMaskedLM, BERTConfig(**_SHAPE), _bert("MaskedLM"), MASKED_LM),
    Declared(
        "bert-untied",
        BERTForMaskedLM,
        BERTConfig(**_SHAPE, tied=False, activation="gelu_tanh", norm_eps=1e-2, num_segments=3, dropout=0.0,
                   attention_dropout=0.0),
        _bert("MaskedLM", tie_word_embeddings=False, hidden_act="gelu_new", layer_norm_eps=1e-2, type_vocab_size=3,
              hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        MASKED_LM,
    ),
    Declared(
        "bert-next-sentence", BERTForNextSentencePrediction, BERTConfig(**_SHAPE), _bert("NextSentencePrediction"),
        NEXT_SENTENCE, _UNTIED,
    ),
    Declared(
        "bert-pretraining", BERTForPreTraining, BERTConfig(**_SHAPE), _bert("PreTraining"), BOTH_TASKS,
        {"tied_weights_stay_tied": "asked of the masked language model, whose logits go by the usual name"},
    ),
    Declared(
        "bert-classification",
        BERTForSequenceClassification,
        BERTConfig(**_SHAPE, labels=_NAMES, classifier_dropout=0.3),
        _bert("SequenceClassification", **_THEIR_NAMES, classifier_dropout=0.3),
        CLASSIFICATION,
        _UNTIED,
    ),
    Declared(
        "bert-tagging", BERTForTokenClassification, BERTConfig(**_SHAPE, labels=_NAMES),
        _bert("TokenClassification", **_THEIR_NAMES), TAGGING, _UNTIED,
    ),
    Declared(
        "bert-answers", BERTForQuestionAnswering, BERTConfig(**_SHAPE), _bert("QuestionAnswering"), ANSWERS,
        _UNTIED | {"every_parameter_gets_a_gradient": "a softmax over the places does not see what all are given"},
    ),
    Declared(
        "roberta",
        RoBERTaForMaskedLM,
        RoBERTaConfig(**_SHAPE, activation="relu"),  # but not in its head
        _roberta("MaskedLM", hidden_act="relu", layer_norm_eps=1e-5),
        MASKED_LM,
    ),
    Declared(
        "roberta-classification",
        RoBERTaForSequenceClassification,
        RoBERTaConfig(**_SHAPE, labels=_NAMES, pad_id=0, num_segments=2),
        _roberta("SequenceClassification", **_THEIR_NAMES, pad_token_id=0, layer_norm_eps=1e-5, type_vocab_size=2),
        CLASSIFICATION,
        _UNTIED,
    ),
    Declared("distilbert", DistilBERTForMaskedLM, DistilBERTConfig(**_SHAPE), _distilbert("MaskedLM"), MASKED_LM),
    Declared(
        "distilbert-classification",
        DistilBERTForSequenceClassification,
        DistilBERTConfig(**_SHAPE, labels=_NAMES, activation="relu"),
        _distilbert("SequenceClassification", **_THEIR_NAMES, activation="relu"),
        CLASSIFICATION,
        _UNTIED,
    ),
    Declared(
        "modernbert",
        ModernBERTForMaskedLM,
        ModernBERTConfig(**_SHAPE | dict(num_layers=4), window_size=6, pooling="cls"),
        _modernbert("MaskedLM", num_hidden_layers=4),
        MASKED_LM,
    ),
    Declared(
        "modernbert-classification",
        ModernBERTForSequenceClassification,
        ModernBERTConfig(
            **_SHAPE, window_size=5, global_every=2, rope_base=700.0, local_rope_base=20.0, labels=_NAMES,
            classifier_activation="silu", embedding_dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
        ),
        _modernbert(
            "SequenceClassification", **_THEIR_NAMES, local_attention=5, classifier_activation="silu",
            classifier_pooling="mean", embedding_dropout=0.1, attention_dropout=0.1, classifier_dropout=0.1,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 700.0},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}},
        ),
        CLASSIFICATION,
        _UNTIED,
    ),
    Declared(
        "modernbert-tagging",
        ModernBERTForTokenClassification,
        ModernBERTConfig(**_SHAPE, window_size=4, pooling="cls", labels=_NAMES),
        _modernbert("TokenClassification", local_attention=4, **_THEIR_NAMES),
        TAGGING,
        _UNTIED,
    ),
]  # fmt: skip
