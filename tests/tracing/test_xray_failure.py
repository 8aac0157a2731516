"""A model that fails in the middle is shown up to the operator that failed, with the shapes that met there."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.models import GPT2, GPT2Config
from glassformer.tracing import Failure, xray


class Inner(nn.Module):
    """A layer that works, then `step`."""

    def __init__(self, step: Callable[["Inner", Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step
        self.up, self.down = nn.Linear(8, 12), nn.Linear(16, 4)
        self.scale = nn.Parameter(torch.ones(16))
        self.table = nn.Embedding(5, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.up(x))


def wrong_linear(self: Inner, h: Tensor) -> Tensor:
    return self.down(h.relu())


def wrong_sum(self: Inner, h: Tensor) -> Tensor:
    return h * self.scale


def wrong_earlier_dimension(self: Inner, h: Tensor) -> Tensor:
    return h + h[:4]


def wrong_product(self: Inner, h: Tensor) -> Tensor:
    return h @ self.down.weight


def wrong_view(self: Inner, h: Tensor) -> Tensor:
    return h.reshape(5, 7)


def wrong_id(self: Inner, h: Tensor) -> Tensor:
    ids = h.argmax(-1) * 0 + 9
    return self.table(ids)


def wrong_dtype(self: Inner, h: Tensor) -> Tensor:
    return h @ h.double().mT


def wrong_attention(self: Inner, h: Tensor) -> Tensor:
    q, k = h.view(1, 6, 12), h.view(1, 4, 18)
    return F.scaled_dot_product_attention(q, k, k)


def wrong_einsum(self: Inner, h: Tensor) -> Tensor:
    left, right = h.view(6, 12), h.view(9, 8)
    return torch.einsum("ac,bc->ab", left, right)


def refusal(self: Inner, h: Tensor) -> Tensor:
    raise ValueError("no such luck")


CASES = [
    (wrong_linear, "1.down", "aten.addmm", "input has 12 numbers in its last dimension, and self.weight takes 16"),
    (wrong_sum, "1", "aten.mul", "the last sizes of h and self.scale, 12 and 16, do not match"),
    (wrong_earlier_dimension, "1", "aten.add", "the sizes in dimension -2 of h and input 2, 6 and 4, do not match"),
    (wrong_product, "1", "aten.mm", "the inner sizes of (6, 12) × (4, 16), 12 and 4, do not match"),
    (wrong_view, "1", "aten.view", "72 elements do not fill the shape (5, 7)"),
    (wrong_id, "1.table", "aten.embedding", "input holds 9; the table has 5 rows, 0 to 4"),
    (wrong_dtype, "1", "aten.mm", "h is float32 and input 2 is float64"),
    (wrong_attention, "1", "aten.bmm", "the inner sizes of (1, 6, 12) × (1, 18, 4), 12 and 18, do not match"),
    (refusal, "1", "a check of its own", "no such luck"),
]  # fmt: skip


def failing(step: Callable[[Inner, Tensor], Tensor]) -> Failure:
    error = xray(nn.Sequential(nn.Identity(), Inner(step)), torch.ones(6, 8)).error
    assert error is not None
    return error


@pytest.mark.parametrize(("step", "module", "operation", "why"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_the_failure_is_placed_and_explained(
    step: Callable[[Inner, Tensor], Tensor], module: str, operation: str, why: str
) -> None:
    error = failing(step)
    assert (error.module, error.operation, error.why) == (module, operation, why)
    assert error.source is not None
    assert error.source.file == __file__
    assert error.source.function == step.__name__
    assert why in str(error)


def test_the_tensors_that_met_are_named_with_their_shapes() -> None:
    assert [(name, str(about)) for name, about in failing(wrong_linear).tensors] == [
        ("input", "f32(6, 12)"), ("self.weight", "f32(4, 16)"), ("self.bias", "f32(4)"),
    ]  # fmt: skip
    einsum = failing(wrong_einsum)  # it fails before any operator runs
    assert einsum.operation == 'torch.einsum("ac,bc->ab", left, right)'
    assert [(name, str(about)) for name, about in einsum.tensors] == [("left", "f32(6, 12)"), ("right", "f32(9, 8)")]
    assert "subscript c" in einsum.why


@pytest.mark.usefixtures("no_shape_checks")
def test_everything_before_the_failure_is_there_and_the_way_to_it_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    model = GPT2(GPT2Config(vocab_size=61, dim=32, num_layers=3, num_heads=4, max_positions=32)).eval()
    model.blocks[1].feed_forward.down.weight = nn.Parameter(torch.zeros(32, 100))  # pyright: ignore
    trace = xray(model, torch.ones(2, 7, dtype=torch.long))
    assert trace.error is not None
    assert trace.error.module == "blocks.1.feed_forward.down"
    assert "128 numbers in its last dimension" in trace.error.why
    assert [call.path for call in trace.root.calls() if call.failed] == [
        "", "blocks.1", "blocks.1.feed_forward", "blocks.1.feed_forward.down",
    ]  # fmt: skip
    assert trace.find("blocks.0").outputs
    assert trace.find("blocks.1.attention").outputs
    assert not any(call.path.startswith("blocks.2") for call in trace.root.calls())
    trace.show()
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "failed in blocks.1.feed_forward.down" in printed


def test_an_error_that_a_model_catches_is_no_failure_and_the_tree_stays_right() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bad, self.good = Inner(wrong_linear), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.bad(x)
            except RuntimeError:
                return self.good(x)

    trace = xray(Careful(), torch.ones(6, 8))
    assert trace.error is None
    assert [call.path for call in trace.root.children] == ["bad", "good"]
    assert not trace.root.failed


def test_the_exception_itself_comes_out_on_request() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        xray(nn.Linear(3, 4), torch.ones(2, 5), raises=True)
    assert not torch.nn.modules.module._has_any_global_hook()
