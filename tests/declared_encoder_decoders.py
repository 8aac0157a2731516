"""The encoder-decoders that declare themselves."""

from collections.abc import Callable
from typing import Any

from declaration import SEQUENCE_TO_SEQUENCE, VOCAB, Declared

from glassformer.models.t5 import T5
from glassformer.models.t5_config import T5Config


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


ENCODER_DECODERS = [
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
