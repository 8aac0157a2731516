"""The encoder-decoders that declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
from declaration import LENGTH, SEQUENCE_TO_SEQUENCE, VOCAB, Declared, Inputs, Kind, pad_text
from torch import Generator

from glassformer.models.bart import BART, BARTConfig
from glassformer.models.bart_heads import BARTForSequenceClassification
from glassformer.models.t5 import T5
from glassformer.models.t5_config import T5Config
from glassformer.models.transformer import TokenTransformer, TransformerConfig


def _t5(name: str = "T5", **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        shape = dict(
            vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=4,
            relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0,
        )  # fmt: skip
        config = getattr(transformers, f"{name}Config")(**shape | changes)
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)

    return make


def _ours_t5(**changes: Any) -> T5Config:
    shape = dict(
        vocab_size=VOCAB, dim=32, head_dim=8, hidden_dim=48, num_encoder_layers=3, num_decoder_layers=2, num_heads=4,
        num_buckets=8, max_distance=12,
    )  # fmt: skip
    return T5Config(**shape | changes)


_LIKE_BART = dict(vocab_size=VOCAB, d_model=32, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
                  decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                  max_position_embeddings=48)  # fmt: skip
_OURS = dict(vocab_size=VOCAB, dim=32, num_encoder_layers=3, num_decoder_layers=2, num_heads=4, hidden_dim=48,
             max_positions=48)  # fmt: skip

_SPECIAL = dict(pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None)
_FORCED_END = dict(pad_token_id=3, forced_eos_token_id=1)


def _like_bart(config: str, model: str, **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        theirs = getattr(transformers, model)(getattr(transformers, f"{config}Config")(**_LIKE_BART | changes))
        for half in (theirs.get_encoder(), theirs.get_decoder()):
            half.embed_tokens.padding_idx = None  # they keep gradients from its row; ours has masks for padding
            sinusoids = half.embed_positions.weight
            if not sinusoids.requires_grad:  # computed, though they are parameters: not to be redrawn
                del half.embed_positions.weight
                half.embed_positions.register_buffer("weight", sinusoids.detach(), persistent=False)
        for name, bias in theirs.named_buffers():
            if name == "final_logits_bias":
                bias.copy_(torch.linspace(-1, 1, VOCAB))  # visible: it is 0 in a fresh model
        return theirs

    return make


_FORCED = {"samples_follow_the_distribution_of_a_whole_pass": "its last token is forced, not drawn"}


END = 10  # where a text that is classified ends


def _ended(config: Any, batch: int, generator: Generator) -> Inputs:
    """Texts with one end each; no other id is it, nor becomes it when the tests exchange those at padding."""
    ids = torch.randint(3, config.vocab_size - 7, (batch, LENGTH), generator=generator)
    ids[:, END] = config.eos_token_id
    return {"input_ids": ids, "labels": torch.arange(batch) % len(config.labels)}


def _pad_behind_the_end(inputs: Inputs, places: slice) -> Inputs:
    """The decoder reads all that stands before the end, padding or not, here as in their model."""
    return pad_text(inputs, slice(END + 1, END + 4) if places.start == 0 and places.stop < LENGTH else places)


ENDED = Kind("sequence classification at the end", _ended, _pad_behind_the_end)

ENCODER_DECODERS = [
    Declared(
        "bart",
        BART,
        BARTConfig(**_OURS, forced_bos_token_id=0),
        _like_bart("Bart", "BartForConditionalGeneration", forced_bos_token_id=0),
        SEQUENCE_TO_SEQUENCE,
        _FORCED,
        spread=0.7,
    ),
    Declared(
        "bart-scaled",
        BART,
        BARTConfig(
            **_OURS,
            scaled=True,
            activation="relu",
            hidden_dropout=0.1,
            decoder_start_token_id=7,
            forced_eos_token_id=None,
        ),
        _like_bart(
            "Bart",
            "BartForConditionalGeneration",
            scale_embedding=True,
            activation_function="relu",
            activation_dropout=0.1,
            decoder_start_token_id=7,
            forced_eos_token_id=None,
        ),
        SEQUENCE_TO_SEQUENCE,
        spread=0.7,
    ),
    Declared(
        "bart-classes",
        BARTForSequenceClassification,
        BARTConfig(**_OURS, classifier_dropout=0.2, labels=("no", "maybe", "yes", "sure")),
        _like_bart(
            "Bart",
            "BartForSequenceClassification",
            classifier_dropout=0.2,
            id2label=dict(enumerate(("no", "maybe", "yes", "sure"))),
            label2id={"no": 0, "maybe": 1, "yes": 2, "sure": 3},
        ),
        ENDED,
        {"tied_weights_stay_tied": "nothing of this head is tied"},
        spread=0.7,
    ),
    Declared(
        "transformer",
        TokenTransformer,
        TransformerConfig(**_OURS),
        _like_bart("Marian", "MarianMTModel", **_SPECIAL, scale_embedding=True, activation_function="relu"),
        SEQUENCE_TO_SEQUENCE,
        spread=0.7,
    ),
    Declared(
        "transformer-unscaled",
        TokenTransformer,
        TransformerConfig(**_OURS, scaled=False, activation="silu", forced_eos_token_id=1, pad_token_id=3),
        _like_bart("Marian", "MarianMTModel", **_SPECIAL | _FORCED_END, activation_function="swish"),
        SEQUENCE_TO_SEQUENCE,
        _FORCED,
        spread=0.7,
    ),
    Declared("t5", T5, _ours_t5(), _t5(), SEQUENCE_TO_SEQUENCE, spread=0.7),
    Declared(
        "t5-v1.1",
        T5,
        _ours_t5(feed_forward="gated-gelu", scaled=False, decoder_start_token_id=5, pad_token_id=2),
        _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=5, pad_token_id=2),
        SEQUENCE_TO_SEQUENCE,
        spread=0.7,
    ),
    Declared(
        "umt5",
        T5,
        _ours_t5(feed_forward="gated-gelu", bias_per_layer=True, num_heads=2, head_dim=10),
        _t5("UMT5", num_heads=2, d_kv=10),
        SEQUENCE_TO_SEQUENCE,
        spread=0.7,
    ),
]
