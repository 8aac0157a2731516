"""Matrices beside each other: every number stands where it should, and differences are the largest there are."""

import numpy as np
import pytest
import torch

from glassformer.tracing import differences, side_by_side


def test_matrices_stand_beside_each_other_under_their_names() -> None:
    text = side_by_side({"x": np.array([[1, -20], [3, 4]]), "softmax": torch.tensor([[0.25, 0.75]])}, decimals=2)
    assert text.split("\n") == [
        "x           softmax",
        "  1  -20    0.25  0.75",
        "  3    4",
    ]  # fmt: skip


def test_zeros_have_no_sign_and_what_is_not_finite_is_said() -> None:
    assert side_by_side({"z": [[-0.0001, 0.0, -0.5]]}, decimals=3).split("\n")[1] == " 0.000   0.000  -0.500"
    assert side_by_side({"z": torch.tensor([float("-inf"), float("nan")])}, decimals=1).split("\n")[1] == "-inf   nan"


def test_three_dimensions_are_counted_down_the_page() -> None:
    text = side_by_side({"heads": np.arange(8).reshape(2, 2, 2)})
    assert text.split("\n") == ["heads", "[0] 0  1", "    2  3", "", "[1] 4  5", "    6  7"]


def test_what_does_not_fit_in_a_line_goes_below() -> None:
    wide = np.zeros((1, 20))
    lines = side_by_side({"a": wide, "b": wide}).split("\n")
    assert lines[0] == "a"
    assert lines[3] == "b"
    assert max(map(len, lines)) <= 150


def test_differences_are_from_the_first_and_the_largest() -> None:
    right = np.array([1.0, 2.0, -np.inf])
    assert differences({"hand": right, "torch": right, "keras": right + 0.25}) == (
        "largest difference from hand: torch 0, keras 2e-01"
    )
    said = side_by_side({"hand": [1.0, 2.0], "bf16": torch.tensor([1.0, 2.5], dtype=torch.bfloat16)}, differences=True)
    assert said.endswith("largest difference from hand: bf16 5e-01")


def test_parameters_and_numbers_are_taken_as_they_are() -> None:
    assert side_by_side({"w": torch.nn.Parameter(torch.ones(2)), "n": 3}).split("\n")[1] == "1.000  1.000    3"


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        side_by_side({})
    with pytest.raises(ValueError, match="'w' has 4 dimensions"):
        side_by_side({"w": np.zeros((1, 1, 1, 1))})
    with pytest.raises(ValueError, match=r"'b' has shape \(3,\) and 'a' \(2,\)"):
        differences({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ValueError, match="stands alone"):
        differences({"a": np.zeros(2)})
