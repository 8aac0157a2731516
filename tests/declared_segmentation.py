"""Models that segment pictures, as they declare themselves."""

from collections.abc import Callable
from typing import Any

from declaration import SEMANTIC, Declared

from glassformer.models.segformer import SegFormerConfig
from glassformer.models.segformer_heads import SegFormerForSemanticSegmentation


def _segformer(**shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**shape))

    return make


SEGMENTATION = [
    Declared(
        "segformer",
        SegFormerForSemanticSegmentation,
        SegFormerConfig(
            dims=(8, 12, 16), depths=(1, 2, 1), num_heads=(1, 2, 4), patch_sizes=(7, 3, 3), strides=(4, 2, 2),
            reductions=(4, 2, 1), hidden_ratios=(2, 3, 2), decoder_dim=10, num_classes=5, path_dropout=0.0,
        ),
        _segformer(
            hidden_sizes=[8, 12, 16], depths=[1, 2, 1], num_attention_heads=[1, 2, 4], patch_sizes=[7, 3, 3],
            strides=[4, 2, 2], sr_ratios=[4, 2, 1], mlp_ratios=[2, 3, 2], num_encoder_blocks=3, decoder_hidden_size=10,
            num_labels=5,
        ),
        SEMANTIC,
    ),
    Declared(
        "segformer-two",
        SegFormerForSemanticSegmentation,
        SegFormerConfig(
            channels=1, dims=(8, 16), depths=(1, 1), num_heads=(2, 2), patch_sizes=(3, 4), strides=(2, 3),
            reductions=(3, 2), hidden_ratios=(1, 2), activation="gelu_tanh", decoder_dim=12, num_classes=3,
            dropout=0.1, attention_dropout=0.1, head_dropout=0.0,
        ),
        _segformer(
            num_channels=1, hidden_sizes=[8, 16], depths=[1, 1], num_attention_heads=[2, 2], patch_sizes=[3, 4],
            strides=[2, 3], sr_ratios=[3, 2], mlp_ratios=[1, 2], num_encoder_blocks=2, decoder_hidden_size=12,
            hidden_act="gelu_pytorch_tanh", num_labels=3,
        ),
        SEMANTIC,
    ),
]  # fmt: skip
