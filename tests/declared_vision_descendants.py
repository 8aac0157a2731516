"""What came of ViT and Swin: DeiT, MAE, DINOv2 and Swin V2 declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
from declaration import VISION, Declared, Inputs, Kind
from torch import Generator

from glassformer.models.deit import DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher

_SHAPE: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4)
_THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)


def _taught(config: Any, batch: int, generator: Generator) -> Inputs:
    """The teacher sees something else than the labels say."""
    inputs = VISION.inputs(config, batch, generator)
    return inputs | {"teacher_labels": torch.randint(config.num_classes, (batch,), generator=generator)}


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

    base = transformers.DeiTForImageClassificationWithTeacher

    def forward(self: Any, labels: Any = None, teacher_labels: Any = None, **inputs: Any) -> Any:
        out = base.forward(self, **inputs)
        if labels is not None:
            loss = cross_entropy(out.cls_logits, labels) + cross_entropy(out.distillation_logits, teacher_labels)
            out["loss"] = loss / 2
        return out

    taught = type(base.__name__, (base,), {"forward": forward})
    return taught(transformers.DeiTConfig(**_THEIRS, intermediate_size=56, num_labels=5))


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
]
