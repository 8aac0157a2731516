"""What is drawn stands where it should: colours at their places, right and wrong told apart."""

import pytest
import torch

from glassformer.image.draw import (
    COLOURS,
    RIGHT,
    WRONG,
    beside,
    cividis,
    class_colour,
    draw_boxes,
    draw_classes,
    draw_confusion,
    draw_masks,
    draw_semantic,
    draw_sheet,
    titled,
)

GREY = torch.full((3, 60, 80), 128, dtype=torch.uint8)


def has(picture: torch.Tensor, colour: tuple[int, int, int]) -> torch.Tensor:
    """(y, x): where a picture has exactly this colour."""
    return (picture == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0)


def test_a_frame_stands_on_the_edges_of_its_box_and_nowhere_inside() -> None:
    drawn = draw_boxes(GREY, torch.tensor([[10.0, 20.0, 50.0, 40.0]]), torch.tensor([1]), smallest=60)
    frame = has(drawn, class_colour(1))
    assert frame[20:40, 10].all()
    assert frame[20:40, 49].all()
    assert frame[39, 10:50].all()
    assert not frame[25:35, 15:45].any()
    assert not frame[45:].any()
    assert not frame[:, 55:].any()


def test_small_pictures_are_enlarged_with_their_boxes() -> None:
    drawn = draw_boxes(GREY[:, :6, :8], torch.tensor([[2.0, 1.0, 4.0, 5.0]]), torch.tensor([0]))
    assert drawn.shape == (3, 240, 320)
    assert has(drawn, COLOURS[0])[199, 80:160].all()
    assert not has(drawn, COLOURS[0])[:, 170:].any()


def test_no_objects_leave_the_picture_as_it_is() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert draw_boxes(GREY, torch.zeros(0, 4), nothing, smallest=1).equal(GREY)
    assert draw_masks(GREY, torch.zeros(0, 60, 80, dtype=torch.bool), nothing, smallest=1).equal(GREY)


def test_a_mask_is_tinted_inside_and_white_along_its_edge() -> None:
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 10:50, 10:70] = True
    drawn = draw_masks(GREY, mask, torch.tensor([2]), smallest=1)
    tint = tuple(round(0.5 * 128 + 0.5 * part) for part in class_colour(2))
    assert has(drawn, tint)[12:20, 12:68].all()
    assert has(drawn, (255, 255, 255))[10, 10:70].all()
    assert drawn[:, :10].eq(128).all()


def test_a_map_of_classes_is_coloured_where_it_counts() -> None:
    classes = torch.zeros(60, 80, dtype=torch.uint8)
    classes[:, 40:] = 255
    drawn = draw_semantic(GREY, classes, ("sky",), smallest=1)
    assert drawn[:, :60, 40:].eq(128).all()
    assert not drawn[:, :60, :40].eq(128).all(0).any()
    assert has(drawn, class_colour(0))[60:].any()  # the legend


def test_a_sheet_marks_right_and_wrong_ones_in_their_colours() -> None:
    sheet = draw_sheet([GREY, GREY], ["a", "b, not a"], [True, False], title="two")
    right, wrong = has(sheet, RIGHT), has(sheet, WRONG)
    middle = 12 + 104 + 6
    assert right[:, :middle].any()
    assert not right[:, middle:].any()
    assert wrong[:, middle:].any()
    assert not wrong[:, :middle].any()


def test_the_diagonal_of_a_perfect_confusion_is_dark_and_the_rest_pale() -> None:
    drawn = draw_confusion([[5, 0], [0, 3]], ["no", "yes"])
    dark, pale = has(drawn, cividis(0.0)), has(drawn, (245, 245, 245))
    cell = 44
    assert abs(int(dark.sum()) - 2 * (cell - 1) ** 2) < 600  # but for the digits
    assert abs(int(pale.sum()) - 2 * (cell - 1) ** 2) < 600


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = draw_classes(GREY, ["cat", "dog"], [0.75, 0.25])
    long, short = sorted(has(drawn, COLOURS[0]).sum(1).unique().tolist())[-2:][::-1]
    assert (long, short) == pytest.approx((225, 75), abs=2)


def test_titles_and_neighbours_keep_the_pixels() -> None:
    assert titled(GREY, "grey")[:, 32:].equal(GREY)
    assert beside([GREY, GREY], ["one", "two"])[:, 40:100, 16:96].equal(GREY)


def test_what_cannot_be_drawn_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="1 pictures, 2 captions"):
        draw_sheet([GREY], ["a", "b"])
    with pytest.raises(ValueError, match="2 rows of counts for 3 labels"):
        draw_confusion([[1, 2], [3, 4]], ["a", "b", "c"])
    with pytest.raises(ValueError, match="2 names and 1 probabilities"):
        draw_classes(GREY, ["a", "b"], [1.0])
