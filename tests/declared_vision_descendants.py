"""What came of ViT and Swin: DeiT, MAE, DINOv2 and Swin V2 declare themselves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from declaration import VISION, Declared, Inputs, Kind
from torch import Generator

from glassformer.models.deit import DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher
from glassformer.models.dinov2 import DINOv2Config, DINOv2ForImageClassification
from glassformer.models.dinov2_registers import DINOv2WithRegistersConfig, DINOv2WithRegistersForImageClassification
from glassformer.models.mae import MAE, MAEConfig
from glassformer.models.swinv2 import SwinV2Config, SwinV2ForImageClassification

_SHAPE: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4)
_THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)


def _taught(config: Any, batch: int, generator: Generator) -> Inputs:
    """The teacher sees something else than the labels say."""
    inputs = VISION.inputs(config, batch, generator)
    return inputs | {"teacher_labels": torch.randint(config.num_classes, (batch,), generator=generator)}


PICTURES = replace(VISION, theirs=dict)
"""Of classes that interpolate positions unasked."""
DISTILLED = Kind("distilled", _taught, labels=("labels", "teacher_labels"), theirs=VISION.theirs)


def _theirs(name: str, config: str, **shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**shape))

    return make


def _theirs_with_teacher() -> Any:
    """Their class with two heads computes no loss: here it is, by equation 3 of the paper."""
    import transformers
    from torch.nn.functional import cross_entropy

    base: Any = transformers.DeiTForImageClassificationWithTeacher

    def forward(self: Any, labels: Any = None, teacher_labels: Any = None, **inputs: Any) -> Any:
        out = base.forward(self, **inputs)
        if labels is not None:
            loss = cross_entropy(out.cls_logits, labels) + cross_entropy(out.distillation_logits, teacher_labels)
            out["loss"] = loss / 2
        return out

    taught = type(base.__name__, (base,), {"forward": forward})
    settings: Any = dict(intermediate_size=56, num_labels=5)
    return taught(transformers.DeiTConfig(**_THEIRS, **settings))


def _hidden(config: Any, batch: int, generator: Generator) -> Inputs:
    """Coarse squares under noise, of the size in the config, and which patches are hidden.

    The order in which they are is one that half precision keeps.
    """
    size, patches = config.image_size, (config.image_size // config.patch_size) ** 2
    order = torch.stack([torch.randperm(patches, generator=generator) for _ in range(batch)])
    squares = torch.randn(batch, config.channels, 4, 4, generator=generator)
    squares = squares.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    pictures = squares + 0.3 * torch.randn(squares.shape, generator=generator)
    return {"pixel_values": pictures, "noise": order / patches}


RECONSTRUCTION = Kind("reconstruction", _hidden, labels=())
NO_LABELS = {"nothing_counted_is_no_loss": "a picture is its own label"}
_DRAWER: Any = dict(decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)

DESCENDANTS = [
    Declared(
        "deit",
        DeiTForImageClassification,
        DeiTConfig(**_SHAPE, hidden_dim=56, num_classes=5, dropout=0.1, attention_dropout=0.1),
        _theirs("DeiTForImageClassification", "DeiTConfig", **_THEIRS, intermediate_size=56, num_labels=5),
        VISION,
    ),
    Declared(
        "deit-with-teacher",
        DeiTForImageClassificationWithTeacher,
        DeiTConfig(**_SHAPE, hidden_dim=56, num_classes=5, dropout=0.1),
        _theirs_with_teacher,
        DISTILLED,
    ),
    Declared(
        "dinov2",
        DINOv2ForImageClassification,
        DINOv2Config(**_SHAPE, num_classes=5, initial_scale=0.3, dropout=0.1, attention_dropout=0.1, path_dropout=0.1),
        _theirs("Dinov2ForImageClassification", "Dinov2Config", **_THEIRS, layerscale_value=0.3, num_labels=5),
        PICTURES,
    ),
    Declared(
        "dinov2-gated",
        DINOv2ForImageClassification,
        DINOv2Config(**_SHAPE, num_classes=5, gated=True, hidden_ratio=3, mask_token=False, attention_bias=False,
                     norm_eps=1e-4),
        _theirs("Dinov2ForImageClassification", "Dinov2Config", **_THEIRS, use_swiglu_ffn=True, mlp_ratio=3,
                use_mask_token=False, qkv_bias=False, layer_norm_eps=1e-4, num_labels=5),
        PICTURES,
    ),
    Declared(
        "dinov2-with-registers",
        DINOv2WithRegistersForImageClassification,
        DINOv2WithRegistersConfig(**_SHAPE, num_classes=5, num_registers=3, hidden_ratio=2, activation="relu"),
        _theirs("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", **_THEIRS,
                num_register_tokens=3, mlp_ratio=2, hidden_act="relu", num_labels=5),
        PICTURES,
    ),
    Declared(
        "dinov2-with-registers-gated",
        DINOv2WithRegistersForImageClassification,
        DINOv2WithRegistersConfig(**_SHAPE, num_classes=5, num_registers=1, gated=True),
        _theirs("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", **_THEIRS,
                num_register_tokens=1, use_swiglu_ffn=True, num_labels=5),
        PICTURES,
    ),
    Declared(
        "swinv2",
        SwinV2ForImageClassification,
        SwinV2Config(image_size=32, patch_size=2, dim=12, depths=(2, 3), num_heads=(2, 4), window_size=3,
                     trained_window_sizes=(0, 0), num_classes=5, path_dropout=0.0),
        _theirs("Swinv2ForImageClassification", "Swinv2Config", image_size=32, patch_size=2, embed_dim=12,
                depths=[2, 3], num_heads=[2, 4], window_size=3, num_labels=5),
        VISION,
    ),
    Declared(
        "swinv2-grown",
        SwinV2ForImageClassification,
        SwinV2Config(image_size=32, patch_size=2, dim=8, depths=(1, 2, 2), num_heads=(1, 2, 4), window_size=6,
                     trained_window_sizes=(4, 4, 2), hidden_ratio=2.5, dropout=0.1, attention_bias=False,
                     activation="relu", norm_eps=1e-4, num_classes=5, path_dropout=0.0),
        _theirs("Swinv2ForImageClassification", "Swinv2Config", image_size=32, patch_size=2, embed_dim=8,
                depths=[1, 2, 2], num_heads=[1, 2, 4], window_size=6, pretrained_window_sizes=[4, 4, 2],
                mlp_ratio=2.5, qkv_bias=False, hidden_act="relu", layer_norm_eps=1e-4, num_labels=5),
        VISION,
    ),
    Declared(
        "mae",
        MAE,
        MAEConfig(**_SHAPE, hidden_dim=56, decoder_dim=32, decoder_num_layers=1, decoder_num_heads=2,
                  decoder_hidden_dim=24, attention_dropout=0.1),
        _theirs("ViTMAEForPreTraining", "ViTMAEConfig", **_THEIRS, **_DRAWER, intermediate_size=56,
                decoder_intermediate_size=24),
        RECONSTRUCTION,
        NO_LABELS,
    ),
    Declared(
        "mae-normalized",
        MAE,
        MAEConfig(**_SHAPE, hidden_dim=40, decoder_dim=32, decoder_num_layers=1, decoder_num_heads=2, channels=1,
                  decoder_hidden_dim=24, mask_ratio=0.6, normalized_pixels=True, attention_bias=False,
                  activation="relu", norm_eps=1e-6),
        _theirs("ViTMAEForPreTraining", "ViTMAEConfig", **_THEIRS, **_DRAWER, intermediate_size=40, num_channels=1,
                decoder_intermediate_size=24, mask_ratio=0.6, norm_pix_loss=True, qkv_bias=False, hidden_act="relu",
                layer_norm_eps=1e-6),
        RECONSTRUCTION,
        NO_LABELS,
    ),
]  # fmt: skip
