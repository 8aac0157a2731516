"""Swin V2 equals transformers' at any size, grown windows too; its scores are cosines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.swinv2 import SwinV2, SwinV2Config, SwinV2ForImageClassification
from glassformer.parts import Attention, Windows
from glassformer.tracing import attention_weights

SMALL: Any = dict(image_size=32, patch_size=2, dim=8, depths=(2, 3), num_heads=(2, 4), window_size=4,
                  trained_window_sizes=(0, 0), num_classes=5)  # fmt: skip
THEIRS: Any = dict(image_size=32, patch_size=2, embed_dim=8, depths=[2, 3], num_heads=[2, 4], num_labels=5)


def small(**changes: Any) -> Any:
    return redraw(SwinV2ForImageClassification(SwinV2Config(**SMALL | changes))).eval()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("swinv2-tiny-patch4-window8-256", 28_347_154),
        ("swinv2-small-patch4-window16-256", 49_728_418),
        ("swinv2-base-patch4-window8-256", 87_918_816),
        ("swinv2-large-patch4-window12to24-192to384", 196_739_932),
    ],
)
def test_with_a_thousand_classes_it_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head="image_classification").num_parameters == count


# The second stage's grid is 8 × 8: windows of 8 and 9 are one, which shifts nowhere, for other pictures too.
@pytest.mark.parametrize("size", [(32, 32), (36, 20), (31, 47), (10, 58)], ids=str)
@pytest.mark.parametrize(("window_size", "trained"), [(4, [0, 0]), (8, [4, 0]), (9, [3, 5])])
@pytest.mark.parametrize("headed", [True, False])
def test_pictures_of_any_size_give_what_transformers_gives(
    headed: bool, window_size: int, trained: list[int], size: tuple[int, int], tmp_path: Path
) -> None:
    import transformers

    make: Any = transformers.Swinv2ForImageClassification if headed else transformers.Swinv2Model
    config = transformers.Swinv2Config(**THEIRS, window_size=window_size, pretrained_window_sizes=trained)
    theirs: Any = redraw(make(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is (SwinV2ForImageClassification if headed else SwinV2)
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, out = theirs(pictures), ours(pictures)
    for name in ("logits",) if headed else ("last_hidden_state", "pooler_output"):
        close(out[name], expected[name], 1e-5, name)


def test_the_size_of_queries_and_keys_does_not_matter_and_the_scale_is_at_most_100() -> None:
    model, pictures = small().double(), torch.randn(1, 3, 32, 32).double()
    before = model(pictures).logits
    for layer in model.modules():
        if isinstance(layer, Attention):
            with torch.no_grad():
                layer.query.weight.mul_(5)
                if layer.query.bias is not None:
                    layer.query.bias.mul_(5)
                layer.key.weight.mul_(0.01)
    close(model(pictures).logits, before, 1e-12, "logits")
    scales = [p for name, p in model.named_parameters() if name.endswith("log_scale")]
    outputs = []
    for value in (4.7, 50.0):  # ln 100 is 4.605
        with torch.no_grad():
            for scale in scales:
                scale.fill_(value)
        outputs.append(model(pictures).logits)
    assert torch.equal(outputs[0], outputs[1])


def test_what_comes_in_over_the_wrapped_edge_is_not_seen() -> None:
    weights = list(attention_weights(small(), torch.randn(1, 3, 32, 32)).values())[1]  # 4 × 4 windows, shifted
    visible = Windows(16, 16, 4, 2).visible(weights.device)
    assert not visible.all()
    assert torch.equal((weights > 0).all(1), visible)


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match=r"trained_window_sizes=\(0, 0, 0, 0\) must speak of the same stages"):
        small(trained_window_sizes=(0, 0, 0, 0))
    with pytest.raises(ValueError, match="window_size=1 leaves nothing to attend to"):
        small(window_size=1)
    with pytest.raises(ValueError, match="image_size=2 leaves the last of 2 stages no place"):
        small(image_size=2)
    with pytest.raises(ValueError, match="pretrained_window_sizes=5; expected whole numbers"):
        SwinV2.config_table.load({"model_type": "swinv2", **THEIRS, "pretrained_window_sizes": 5})
