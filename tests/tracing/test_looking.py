"""Maps lie where the model looked; rollout equals the product of matrices written out, in windows too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from declared import DECLARED
from properties import redraw
from torch import Tensor

from glassformer.models.catalog import create_model
from glassformer.parts import Windows
from glassformer.tracing import attention_maps, attention_rollout, attention_weights, cross_attention_maps
from glassformer.tracing.looking import looks

VIT: Any = dict(image_size=24, patch_size=6, dim=16, num_layers=3, num_heads=2, num_classes=5)
SWIN: Any = dict(image_size=24, patch_size=2, dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=5)
DETR: Any = dict(dim=16, num_queries=5, num_encoder_layers=1, num_decoder_layers=2, num_heads=2, hidden_dim=24)
IN_FRONT = {"vit": 1, "deit": 2, "dinov2": 1, "dinov2-with-registers": 5}


def model(name: str, **changes: Any) -> Any:
    settings = dict(hidden_dim=24) if name in ("vit", "deit") else {}
    return redraw(create_model(name, head="image_classification", **VIT | settings | changes)).eval()


def swin(name: str = "swin") -> Any:
    settings = dict(trained_window_sizes=(0, 0)) if name == "swinv2" else {}
    return redraw(create_model(name, head="image_classification", **SWIN | settings)).eval()


@pytest.mark.parametrize("name", IN_FRONT)
def test_a_map_is_the_class_token_s_row_laid_over_the_grid(name: str) -> None:
    seer, pictures = model(name), torch.randn(2, 3, 12, 30)
    weights = list(attention_weights(seer, pictures).values())
    before = IN_FRONT[name]
    for block in (0, -1):
        maps = attention_maps(seer, pictures, block)
        assert maps.shape == (2, 2, 2, 5)
        assert torch.equal(maps.flatten(2), weights[block][:, :, 0, before:])
    there = attention_maps(seer, pictures, 1, place=(1, 3))
    assert torch.equal(there.flatten(2), weights[1][:, :, before + 5 + 3, before:])


def test_without_a_class_token_all_places_ask_alike() -> None:
    seer, pictures = model("vit", pooling="mean"), torch.randn(1, 3, 24, 24)
    (_, weights, _) = attention_weights(seer, pictures).values()
    assert torch.allclose(attention_maps(seer, pictures, 1).flatten(2), weights.mean(2), atol=1e-6)


def cell_by_cell(weights: Tensor, windows: Windows, heads: bool = True) -> Tensor:
    """(b, h, cells, cells), each cell's window and place in it counted out."""
    m, across = windows.size, -(-windows.columns // windows.size)
    each = across * -(-windows.rows // m)
    dense = torch.zeros(len(weights) // each, weights.shape[1], *[windows.rows * windows.columns] * 2)
    height, width = -(-windows.rows // m) * m, across * m

    def place(row: int, column: int) -> tuple[int, int]:
        y, x = (row - windows.shift) % height, (column - windows.shift) % width
        return y // m * across + x // m, y % m * m + x % m

    cells = [(row, column) for row in range(windows.rows) for column in range(windows.columns)]
    for i, asking in enumerate(cells):
        for j, asked in enumerate(cells):
            (window, query), (other, key) = place(*asking), place(*asked)
            if window == other:
                dense[:, :, i, j] = weights[window::each, :, query, key]
    return dense


# 12 × 12 places in windows of 4, then 6 × 6, which windows do not divide; and a picture that is not square.
@pytest.mark.parametrize("size", [(24, 24), (20, 14)], ids=str)
@pytest.mark.parametrize("name", ["swin", "swinv2"])
def test_maps_of_windows_lie_in_the_grid_where_the_windows_were(name: str, size: tuple[int, int]) -> None:
    seer, pictures = swin(name), torch.randn(2, 3, *size)
    found = looks(seer, pictures)
    assert [look.windows.shift for look in found if look.windows][:3] == [0, 2, 0]
    for block, look in enumerate(found):
        assert look.windows is not None
        dense = cell_by_cell(look.weights, look.windows)
        rows, columns = look.windows.rows, look.windows.columns
        even = attention_maps(seer, pictures, block)
        assert even.shape == (2, dense.shape[1], rows, columns)
        assert torch.allclose(even.flatten(2), dense.mean(2), atol=1e-6)
        one = attention_maps(seer, pictures, block, place=(rows - 1, 1))
        assert torch.allclose(one.flatten(2), dense[:, :, (rows - 1) * columns + 1], atol=1e-6)


def rolled_out(matrices: list[Tensor], residual: float) -> Tensor:
    flow = torch.eye(matrices[0].shape[-1])
    for matrix in matrices:
        flow = residual * flow + (1 - residual) * matrix @ flow
    return flow


@pytest.mark.parametrize("residual", [0.5, 0.0])
def test_rollout_is_the_product_of_the_blocks_mean_heads_and_of_what_goes_around_them(residual: float) -> None:
    pictures = torch.randn(2, 3, 12, 30)
    for name, before in IN_FRONT.items():
        seer = model(name)
        means = [weights.mean(1) for weights in attention_weights(seer, pictures).values()]
        read = rolled_out(means, residual)[:, 0, before:]
        rollout = attention_rollout(seer, pictures, residual=residual)
        assert rollout.shape == (2, 2, 5)
        assert torch.allclose(rollout.flatten(1), read / read.sum(1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("size", [(24, 24), (20, 14)], ids=str)
@pytest.mark.parametrize("name", ["swin", "swinv2"])
def test_rollout_through_windows_and_merged_places_is_the_product_of_matrices(name: str, size: tuple[int, int]) -> None:
    seer, pictures = swin(name), torch.randn(1, 3, *size)
    flow: Any = None
    for look in looks(seer, pictures):
        windows = look.windows
        assert windows is not None
        matrix = cell_by_cell(look.weights, windows)[0].mean(0)
        flow = torch.eye(len(matrix)) if flow is None else flow
        if len(matrix) != len(flow):  # merge: each new place is the mean of the old ones under it
            rows, columns = size[0] // 2, size[1] // 2
            under = torch.zeros(windows.rows, windows.columns, rows, columns)
            for row in range(rows):
                for column in range(columns):
                    under[row // 2, column // 2, row, column] = 1
            merge = under.view(len(matrix), rows * columns)
            flow = merge / merge.sum(1, keepdim=True) @ flow
        flow = 0.5 * flow + 0.5 * (matrix / matrix.sum(1, keepdim=True)) @ flow
    expected = flow.mean(0)
    rollout = attention_rollout(seer, pictures)
    assert rollout.shape == (1, size[0] // 2, size[1] // 2)
    assert torch.allclose(rollout.flatten(), expected / expected.sum(), atol=1e-6)


def test_a_model_that_reads_one_patch_alone_is_seen_to_do_so() -> None:
    seer, pictures = model("vit"), torch.zeros(1, 3, 24, 24)
    pictures[:, :, 12:18, 6:12] = 5.0  # the patch in row 2, column 1
    with torch.no_grad():
        encoder = seer.encoder
        encoder.position.weight.zero_()
        encoder.class_token.zero_()
        for block in encoder.blocks:  # queries are constant, keys are what the patch's pixels make of them
            block.attention.query.weight.zero_()
        attention = encoder.blocks[0].attention
        key = attention.key(encoder.blocks[0].attention_norm(encoder.embedded(pictures)))[0, 1 + 2 * 4 + 1]
        attention.query.bias.copy_(20 * key)
    maps = attention_maps(seer, pictures, 0)
    assert maps[0].flatten(1).argmax(1).tolist() == [9, 9]
    assert attention_rollout(seer, pictures).flatten().argmax() == 9


def test_queries_of_a_detector_look_at_the_grid_and_not_at_padding() -> None:
    seer, pictures = redraw(create_model("detr", head="object_detection", **DETR)), torch.randn(2, 3, 64, 96)
    maps = cross_attention_maps(seer, pictures)
    assert maps.shape == (2, 2, 5, 2, 3)
    assert torch.allclose(maps.sum((3, 4)), torch.ones(2, 2, 5), atol=1e-5)
    present = torch.ones(2, 64, 96, dtype=torch.long)
    present[1, :, 64:] = 0
    hidden = cross_attention_maps(seer, pictures, layer=0, pixel_mask=present)
    assert (hidden[1, :, :, :, 2] == 0).all()
    assert (hidden[0] > 0).all()


@pytest.mark.parametrize("name", ["segformer", "timesformer", "vivit", "videomae"])
def test_every_model_that_sees_has_maps(name: str) -> None:
    case = next(case for case in DECLARED if case.name.startswith(name) and "labels" in case.inputs())
    seer, inputs = redraw(case.build()).eval(), case.inputs(batch=2)
    maps = attention_maps(seer, inputs["pixel_values"])
    assert maps.isfinite().all()
    assert (maps >= 0).all()
    assert maps.flatten(2).sum(-1).max() <= 1 + 1e-5


def hooks(seer: Any) -> Iterator[int]:
    return (len(m._forward_hooks) + len(m._forward_pre_hooks) for m in seer.modules())


def test_nothing_is_left_on_the_model() -> None:
    seer = swin().train()
    before = [getattr(module, "kernel", None) for module in seer.modules()]
    attention_rollout(seer, torch.randn(1, 3, 24, 24))
    assert not any(hooks(seer))
    assert seer.training
    assert [getattr(module, "kernel", None) for module in seer.modules()] == before


def test_what_has_no_map_is_said() -> None:
    seer, pictures = model("vit"), torch.randn(1, 3, 24, 24)
    with pytest.raises(IndexError, match="block=3 is none of the 3 attention layers"):
        attention_maps(seer, pictures, 3)
    with pytest.raises(IndexError, match=r"place=\(4, 0\) is not in the grid of 4 × 4"):
        attention_maps(seer, pictures, place=(4, 0))
    with pytest.raises(ValueError, match="has no cross_attention: no queries that read a picture"):
        cross_attention_maps(seer, pictures)
    with pytest.raises(ValueError, match=r"residual=1.0 is no share"):
        attention_rollout(seer, pictures, residual=1.0)
    mae = create_model("mae", **{name: VIT[name] for name in ("image_size", "patch_size", "dim", "num_layers")},
                       num_heads=2, decoder_dim=16, decoder_num_layers=1, decoder_num_heads=2)  # fmt: skip
    with pytest.raises(ValueError, match="reads 5 tokens, fewer than the 4 × 4 patches of the picture"):
        attention_maps(mae, pictures, 0)
    assert attention_maps(mae, pictures, -1).shape == (1, 2, 4, 4), "its decoder looks everywhere"


def test_pictures_of_attention_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from glassformer.image.processor import ImageProcessor
    from glassformer.tracing.looking_plots import as_picture, attention_picture, draw_attention, draw_queries

    picture = torch.randint(256, (3, 48, 48), dtype=torch.uint8)
    made = draw_attention(model("vit"), torch.randn(1, 3, 24, 24), picture, str(tmp_path / "attention.png"))
    titles = [axis.get_title().partition("\n")[0] for axis in made.axes]
    assert titles[:5] == ["picture", "rollout of all blocks", "mean of the heads", "head 1", "head 2"]
    assert (tmp_path / "attention.png").stat().st_size > 10_000
    drawn = as_picture(made, dpi=60)
    assert drawn.shape[0] == 3
    assert drawn.dtype == torch.uint8
    assert drawn.float().std() > 10
    detector: Any = redraw(create_model("detr", head="object_detection", **DETR)).eval()
    pixels = torch.randn(1, 3, 64, 64)
    found = draw_queries(detector, pixels, picture, most=3)
    assert sum(bool(axis.patches) for axis in found.axes) == 3, "a box for each query"
    query = int(detector(pixels).logits[0].softmax(-1)[:, :-1].amax(-1).argmax())
    assert found.axes[1].get_title().startswith(f"query {query + 1}:")
    for seer, size in ((model("vit"), (24, 24)), (detector, (64, 64))):
        drawn = attention_picture(seer, ImageProcessor(size=size), picture)
        assert drawn.shape[0] == 3
        assert drawn.float().std() > 10
