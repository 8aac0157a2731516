"""The shape checks of the tests: they look, and they can be set aside where a graph must be whole."""

import pytest
import torch
from jaxtyping import TypeCheckError

from glassformer.ops.mask import Mask
from glassformer.parts import Attention, LayerNorm


def test_a_wrong_shape_inside_the_library_fails_under_test() -> None:
    with pytest.raises(TypeCheckError, match="query"):
        Attention(8, 2)(torch.randn(3, 8))


def test_shape_letters_are_held_equal_across_the_arguments_of_a_call() -> None:
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.randn(2, 5, 8)
    with pytest.raises(TypeCheckError, match="value"):
        Attention(8, 2)(query, key, value)


@pytest.mark.usefixtures("no_shape_checks")
def test_shape_checks_can_be_set_aside_for_a_test() -> None:
    with pytest.raises((IndexError, ValueError, RuntimeError)):
        Attention(8, 2)(torch.randn(8))


@pytest.mark.slow
def test_a_part_compiles_into_one_graph_although_its_shapes_are_checked() -> None:
    norm, attention = LayerNorm(8), Attention(8, 2)

    def block(x: torch.Tensor) -> torch.Tensor:
        return attention(norm(x), mask=Mask.causal() & Mask.window(3))

    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_a_part_exports_although_its_shapes_are_checked(strict: bool) -> None:
    block, x = torch.nn.Sequential(LayerNorm(8), Attention(8, 2)), torch.randn(2, 5, 8)
    exported = torch.export.export(block, (x,), strict=strict).module()
    torch.testing.assert_close(exported(x), block(x))
