"""ViT and Swin by name: `vit_base_patch16_224(num_classes=10)(images)` gives logits."""

from abc import ABC
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.models.catalog import changed, model_config
from glassformer.models.swin import SwinConfig, SwinForImageClassification
from glassformer.models.vision import ImageClassification
from glassformer.models.vit import ViTConfig, ViTForImageClassification
from glassformer.tracing import attention_weights


class ImageModel(nn.Module, ABC):
    """An image classifier, held as `model`, that gives plain tensors."""

    model: ImageClassification

    @property
    def config(self) -> Any:
        """The config that the model was built from."""
        return self.model.config

    def forward(
        self, images: Float[Tensor, "b c y x"], return_features: bool = False
    ) -> Float[Tensor, "b n"] | Float[Tensor, "b d"]:
        """Logits (b, n); or what the head reads, (b, dim), with `return_features`."""
        if return_features:
            return self.model.features(self.model.encoder(images))
        logits = self.model(images).logits
        assert logits is not None
        return logits

    def get_attention_maps(self, images: Float[Tensor, "b c y x"], block_idx: int = -1) -> Float[Tensor, "bw h t t"]:
        """The attention weights of one block, the last by default: (b, heads, t, t); of windows, (b · windows, ...).

        Raises IndexError where there is no such block.
        """
        maps = list(attention_weights(self.model, images).values())
        if not -len(maps) <= block_idx < len(maps):
            raise IndexError(f"block_idx={block_idx} is none of the {len(maps)} blocks")
        return maps[block_idx]


class VisionTransformer(ImageModel):
    """`ViTForImageClassification`; settings are those of `ViTConfig`: `VisionTransformer(num_classes=10, dim=384)`."""

    def __init__(self, config: ViTConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = ViTForImageClassification(changed(config or ViTConfig(), settings))


class SwinTransformer(ImageModel):
    """`SwinForImageClassification`; settings are those of `SwinConfig`."""

    def __init__(self, config: SwinConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = SwinForImageClassification(changed(config or SwinConfig(), settings))


def vit_tiny_patch16_224(**settings: Any) -> VisionTransformer:
    """ViT-Ti/16: 5.7 million parameters (Touvron et al. 2021)."""
    return VisionTransformer(model_config("vit-tiny-patch16-224", **settings))


def vit_small_patch16_224(**settings: Any) -> VisionTransformer:
    """ViT-S/16: 22 million parameters (Touvron et al. 2021)."""
    return VisionTransformer(model_config("vit-small-patch16-224", **settings))


def vit_base_patch16_224(**settings: Any) -> VisionTransformer:
    """ViT-B/16: 86 million parameters (Dosovitskiy et al. 2021)."""
    return VisionTransformer(model_config("vit-base-patch16-224", **settings))


def vit_base_patch32_224(**settings: Any) -> VisionTransformer:
    """ViT-B/32: 88 million parameters (Dosovitskiy et al. 2021)."""
    return VisionTransformer(model_config("vit-base-patch32-224", **settings))


def vit_large_patch16_224(**settings: Any) -> VisionTransformer:
    """ViT-L/16: 304 million parameters (Dosovitskiy et al. 2021)."""
    return VisionTransformer(model_config("vit-large-patch16-224", **settings))


def vit_huge_patch14_224(**settings: Any) -> VisionTransformer:
    """ViT-H/14: 632 million parameters (Dosovitskiy et al. 2021)."""
    return VisionTransformer(model_config("vit-huge-patch14-224", **settings))


def swin_tiny_patch4_window7_224(**settings: Any) -> SwinTransformer:
    """Swin-T: 28 million parameters (Liu et al. 2021)."""
    return SwinTransformer(model_config("swin-tiny-patch4-window7-224", **settings))


def swin_small_patch4_window7_224(**settings: Any) -> SwinTransformer:
    """Swin-S: 50 million parameters (Liu et al. 2021)."""
    return SwinTransformer(model_config("swin-small-patch4-window7-224", **settings))


def swin_base_patch4_window7_224(**settings: Any) -> SwinTransformer:
    """Swin-B: 88 million parameters (Liu et al. 2021)."""
    return SwinTransformer(model_config("swin-base-patch4-window7-224", **settings))


def swin_large_patch4_window7_224(**settings: Any) -> SwinTransformer:
    """Swin-L: 197 million parameters (Liu et al. 2021)."""
    return SwinTransformer(model_config("swin-large-patch4-window7-224", **settings))
