"""ResNet and detectors that declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
from declaration import DETECTION, VISION, Declared, Inputs, Kind
from torch import Generator

from glassformer.models.conditional_detr import ConditionalDETRConfig, ConditionalDETRForObjectDetection
from glassformer.models.detr import DETRConfig, DETRForObjectDetection
from glassformer.models.resnet import ResNetConfig, ResNetForImageClassification


def _pictures(config: Any, batch: int, generator: Generator) -> Inputs:
    """Of odd sizes."""
    labels = torch.randint(config.num_classes, (batch,), generator=generator)
    return {"pixel_values": torch.randn(batch, config.channels, 37, 50, generator=generator), "labels": labels}


CONVOLUTIONS = Kind(VISION.name, _pictures)


def _seen(model: Any) -> Any:
    """Frozen gains and shifts drawn at a visible scale, which in their files are buffers; everything learns."""
    generator = torch.Generator().manual_seed(7)
    for name, buffer in model.named_buffers():
        if name.endswith(("normalization.weight", "normalization.bias")):
            buffer.copy_(name.endswith("weight") + 0.3 * torch.randn(buffer.shape, generator=generator))
    return model.requires_grad_(True)


def _resnet(**changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        shape: Any = dict(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 2], num_labels=5)
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(**shape | changes))

    return make


def _detector(name: str, backbone: dict[str, Any], **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        eyes = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **backbone)
        config = getattr(transformers, f"{name}Config")(
            use_timm_backbone=False, backbone_config=eyes, num_channels=eyes.num_channels, num_labels=3, num_queries=6,
            attn_implementation="eager", encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=20,
            decoder_ffn_dim=20, **dict(d_model=16, encoder_layers=2, decoder_layers=3) | changes,
        )  # fmt: skip
        return _seen(getattr(transformers, f"{name}ForObjectDetection")(config))

    return make


_RESNET: Any = dict(stem_dim=8, dims=(32, 64), num_classes=5)
_BASIC = ResNetConfig(stem_dim=8, dims=(8, 16), depths=(1, 1), block="basic")
_BOTTLENECK = ResNetConfig(stem_dim=8, dims=(8, 16), depths=(1, 1), halve_first=True, halve_early=True, channels=1)
_SHAPE: Any = dict(num_classes=3, num_queries=6, num_heads=2, hidden_dim=20)
_SMALL: Any = dict(**_SHAPE, dim=16, num_encoder_layers=2, num_decoder_layers=3)
_EARLY = dict(downsample_in_first_stage=True, downsample_in_bottleneck=True, num_channels=1)
_SKIPS = {
    "nothing_counted_is_no_loss": "a picture without objects is learned from: every query is to say so",
    "every_parameter_gets_a_gradient": "all queries begin as 0, and their first self-attention is blind",
    "overfits_one_batch": "a picture with more objects than queries is never right",
}

DETECTION_MODELS = [
    Declared("resnet", ResNetForImageClassification, ResNetConfig(**_RESNET, depths=(1, 2)), _resnet(), CONVOLUTIONS,
        {"bfloat16_is_finite_and_near": "no norm looks at its input: 30 for each of 21 factors is beyond any float"}),
    Declared(
        "resnet-basic",
        ResNetForImageClassification,
        ResNetConfig(**_RESNET, depths=(2, 1), block="basic", halve_first=True, channels=1),
        _resnet(layer_type="basic", depths=[2, 1], downsample_in_first_stage=True, num_channels=1),
        CONVOLUTIONS,
    ),
    Declared(
        "detr",
        DETRForObjectDetection,
        DETRConfig(backbone=_BASIC, **_SMALL),
        _detector("Detr", dict(layer_type="basic")),
        DETECTION,
        _SKIPS,
    ),
    Declared(
        "detr-auxiliary",
        DETRForObjectDetection,
        DETRConfig(
            backbone=_BOTTLENECK, **_SHAPE, dim=24, num_encoder_layers=1, num_decoder_layers=2, auxiliary_loss=True,
            activation="gelu", attention_dropout=0.1, class_cost=2, box_cost=3, giou_cost=1, box_weight=4,
            giou_weight=3, nothing_weight=0.3,
        ),
        _detector("Detr", _EARLY, d_model=24, encoder_layers=1, decoder_layers=2, auxiliary_loss=True,
                  activation_function="gelu", class_cost=2, bbox_cost=3, giou_cost=1, bbox_loss_coefficient=4,
                  giou_loss_coefficient=3, eos_coefficient=0.3),
        DETECTION,
        _SKIPS,
    ),
    Declared(
        "conditional-detr",
        ConditionalDETRForObjectDetection,
        ConditionalDETRConfig(backbone=_BASIC, **_SMALL),
        _detector("ConditionalDetr", dict(layer_type="basic")),
        DETECTION,
        _SKIPS,
    ),
    Declared(
        "conditional-detr-auxiliary",
        ConditionalDETRForObjectDetection,
        ConditionalDETRConfig(
            backbone=_BOTTLENECK, **_SHAPE, dim=24, num_encoder_layers=1, num_decoder_layers=2, auxiliary_loss=True,
            hidden_dropout=0.1, focal_alpha=0.4, class_cost=1, box_weight=3,
        ),
        _detector("ConditionalDetr", _EARLY, d_model=24, encoder_layers=1, decoder_layers=2, auxiliary_loss=True,
                  focal_alpha=0.4, class_cost=1, bbox_loss_coefficient=3),
        DETECTION,
        _SKIPS,
    ),
]  # fmt: skip
