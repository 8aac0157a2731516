"""Models that segment pictures, as they declare themselves."""

from collections.abc import Callable
from typing import Any

from declaration import SEMANTIC, UNIVERSAL, Declared

from glassformer.models.mask2former import Mask2FormerForUniversalSegmentation
from glassformer.models.mask2former_config import Mask2FormerConfig
from glassformer.models.segformer import SegFormerConfig
from glassformer.models.segformer_heads import SegFormerForSemanticSegmentation
from glassformer.models.swin import SwinConfig


def _segformer(**shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**shape))

    return make


def _mask2former(**shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        backbone = transformers.SwinConfig(
            embed_dim=12, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4], window_size=3, patch_size=2, image_size=32,
            out_features=[f"stage{i}" for i in range(1, 5)],
        )  # fmt: skip
        config = transformers.Mask2FormerConfig(
            backbone_config=backbone, feature_size=64, hidden_dim=64, encoder_feedforward_dim=40, encoder_layers=2,
            num_attention_heads=4, dim_feedforward=48, num_labels=3, **shape,
        )  # fmt: skip
        return transformers.Mask2FormerForUniversalSegmentation(config)

    return make


_BACKBONE = SwinConfig(
    image_size=32, patch_size=2, dim=12, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4), window_size=3, path_dropout=0.0
)
_MASK2FORMER: dict[str, Any] = dict(
    backbone=_BACKBONE, dim=64, num_heads=4, num_encoder_layers=2, encoder_hidden_dim=40, hidden_dim=48, num_classes=3
)
_SET = {
    "nothing_counted_is_no_loss": "a query that stands for nothing learns to say so",
    "bfloat16_is_finite_and_near": "a query reads where its mask is above 0, or not: rounding decides at the edge",
    "overfits_one_batch": "its rate is too high for norms after the sum: see test_mask2former.py, at a lower one",
}

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
    Declared(
        "mask2former",
        Mask2FormerForUniversalSegmentation,
        Mask2FormerConfig(**_MASK2FORMER, mask_dim=24, num_layers=4, num_queries=7, num_points=60),
        _mask2former(mask_feature_size=24, decoder_layers=5, num_queries=7, train_num_points=60),
        UNIVERSAL,
        _SET,
        spread=0.35,  # rounding is nearly all that the gradients of some queries are
    ),
    Declared(
        "mask2former-few",
        Mask2FormerForUniversalSegmentation,
        Mask2FormerConfig(
            **_MASK2FORMER, mask_dim=32, num_layers=1, num_queries=6, num_points=40, activation="gelu",
            class_weight=1.0, mask_weight=3.0, dice_weight=4.0, nothing_weight=0.3, oversample_ratio=2.0,
            importance_ratio=0.5,
        ),
        _mask2former(
            mask_feature_size=32, decoder_layers=2, num_queries=6, train_num_points=40, activation_function="gelu",
            class_weight=1.0, mask_weight=3.0, dice_weight=4.0, no_object_weight=0.3, oversample_ratio=2.0,
            importance_sample_ratio=0.5,
        ),
        UNIVERSAL,
        _SET,
        spread=0.6,  # rounding is nearly all that the gradients of some queries are
    ),
]  # fmt: skip
