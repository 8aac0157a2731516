"""Image classifiers that declare themselves."""

from collections.abc import Callable
from typing import Any

from declaration import VISION, Declared

from glassformer.models.swin import SwinConfig, SwinForImageClassification
from glassformer.models.vit import ViTConfig, ViTForImageClassification

_VIT = dict(image_size=24, patch_size=6, num_classes=5)
_SWIN = dict(image_size=32, patch_size=2, dim=12, depths=(2, 3), num_heads=(2, 4), num_classes=5, path_dropout=0.0)


def _theirs(name: str, **shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        config = getattr(transformers, f"{name}Config")(num_labels=5, **shape)
        return getattr(transformers, f"{name}ForImageClassification")(config)

    return make


def _vit(**changes: Any) -> Callable[[], Any]:
    shape = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    return _theirs("ViT", **shape | dict(intermediate_size=56) | changes)


def _swin(**changes: Any) -> Callable[[], Any]:
    shape = dict(image_size=32, patch_size=2, embed_dim=12, depths=[2, 3], num_heads=[2, 4], window_size=3)
    return _theirs("Swin", **shape | changes)


VISION_MODELS = [
    Declared(
        "vit",
        ViTForImageClassification,
        ViTConfig(**_VIT, dim=32, num_layers=3, num_heads=4, hidden_dim=56, dropout=0.1, attention_dropout=0.1),
        _vit(),
        VISION,
    ),
    Declared(
        "vit-unbiased",
        ViTForImageClassification,
        ViTConfig(
            **_VIT, dim=24, num_layers=2, num_heads=2, hidden_dim=40, channels=1, attention_bias=False,
            activation="gelu_tanh", norm_eps=1e-6,
        ),
        _vit(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, num_channels=1,
            qkv_bias=False, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
        ),
        VISION,
    ),
    Declared(
        "vit-mean",
        ViTForImageClassification,
        ViTConfig(**_VIT, dim=32, num_layers=2, num_heads=4, hidden_dim=56, pooling="mean"),
        kind=VISION,
    ),
    Declared("swin", SwinForImageClassification, SwinConfig(**_SWIN, window_size=3), _swin(), VISION),
    Declared(
        "swin-unbiased",
        SwinForImageClassification,
        SwinConfig(
            **_SWIN | dict(depths=(1, 2, 1), num_heads=(1, 2, 4)), window_size=3, hidden_ratio=2.5, dropout=0.1,
            attention_bias=False, activation="relu", norm_eps=1e-4,
        ),
        _swin(depths=[1, 2, 1], num_heads=[1, 2, 4], mlp_ratio=2.5, qkv_bias=False, hidden_act="relu",
              layer_norm_eps=1e-4),
        VISION,
    ),
]  # fmt: skip
