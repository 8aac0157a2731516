"""Windows take a grid apart and put it together; their bias knows offsets, their mask knows neighbours."""

import pytest
import torch

from glassformer.parts import WindowBias, WindowMasks, Windows


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (9, 13), (4, 17), (5, 5)])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_joining_undoes_splitting(rows: int, columns: int, shift: int) -> None:
    x = torch.randn(2, rows, columns, 3)
    windows = Windows(rows, columns, 4, shift)
    parts = windows.split(x)
    assert parts.shape == (2 * -(-rows // 4) * -(-columns // 4), 16, 3)
    assert torch.equal(windows.join(parts), x)


def test_a_window_is_a_square_of_the_shifted_grid() -> None:
    x = torch.arange(64).view(1, 8, 8, 1).float()
    plain, shifted = Windows(8, 8, 4).split(x), Windows(8, 8, 4, 2).split(x)
    assert torch.equal(plain[1].view(4, 4), x[0, :4, 4:, 0])
    assert torch.equal(shifted[0].view(4, 4), x[0, 2:6, 2:6, 0])
    around = [6, 7, 0, 1]
    assert torch.equal(shifted[3].view(4, 4), x[0, around][:, around, 0])


def test_a_grid_no_larger_than_a_window_takes_smaller_ones_unshifted() -> None:
    assert Windows.fit(8, 9, 7, 3) == Windows(8, 9, 7, 3)
    assert Windows.fit(7, 9, 7, 3) == Windows(7, 9, 7, 0)
    assert Windows.fit(20, 5, 7, 3) == Windows(20, 5, 5, 0)


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (9, 14)])
def test_the_mask_shows_those_that_the_shift_left_together(rows: int, columns: int) -> None:
    windows = Windows(rows, columns, 4, 2)
    high, wide = rows + -rows % 4, columns + -columns % 4
    place = torch.stack(torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij"), -1)[None].float()
    where = Windows(high, wide, 4, 2).split(place)  # for each place in each window: where it was
    near = (where[:, :, None] - where[:, None, :]).abs().amax(-1) < 4
    assert torch.equal(windows.visible(torch.device("cpu")), near)
    mask = windows.mask(3, torch.device("cpu"))
    visible = mask.visible(16, 16, torch.device("cpu"))
    assert visible is not None
    assert torch.equal(visible[:, 0], near.repeat(3, 1, 1)), "for each picture in turn"
    assert Windows(rows, columns, 4).mask(3, torch.device("cpu")).terms == ()


def test_masks_are_kept_for_the_next_pictures_of_their_size() -> None:
    masks, x = WindowMasks(), torch.zeros(2, 8, 8, 3)
    first = masks(Windows(8, 8, 4, 2), x)
    assert masks(Windows(8, 8, 4, 2), x) is first
    assert masks(Windows(8, 8, 4, 2), x[:1]) is not first
    for rows in range(9, 30):
        masks(Windows(rows, 8, 4, 2), x)
    assert len(masks._kept) <= 8


@pytest.mark.parametrize("size", [4, 3, 1])
def test_the_bias_is_one_number_per_offset(size: int) -> None:
    layer = WindowBias(2, 4)
    bias = layer(size)
    assert bias.shape == (1, 2, size * size, size * size)
    for query in range(size * size):
        for key in range(size * size):
            down, across = query // size - key // size, query % size - key % size
            assert torch.equal(bias[0, :, query, key], layer.table[(down + 3) * 7 + across + 3])
