"""Masks: each term against its definition written as loops, combinations, offsets after a cache, errors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.ops.mask import Mask

B, H, S = 2, 3, 6
CPU = torch.device("cpu")
PRESENT = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]).bool()
IDS = torch.tensor([[0, 0, 1, 1, 1, 2], [3, 3, 3, 3, 3, 3]])
LENGTHS = torch.tensor([2, 4])
DENSE = torch.rand(B, H, S, S, generator=torch.Generator().manual_seed(1)) > 0.4

Definition = Callable[[int, int, int, int], bool]
TERMS: dict[str, tuple[Mask, Definition]] = {
    "everything": (Mask(), lambda b, h, q, k: True),
    "causal": (Mask.causal(), lambda b, h, q, k: k <= q),
    "window": (Mask.window(2), lambda b, h, q, k: abs(q - k) < 2),
    "padding": (Mask.padding(PRESENT), lambda b, h, q, k: bool(PRESENT[b, k])),
    "prefix": (Mask.prefix(LENGTHS), lambda b, h, q, k: k <= q or k < LENGTHS[b].item()),
    "documents": (Mask.documents(IDS), lambda b, h, q, k: bool(IDS[b, q] == IDS[b, k])),
    "packed": (Mask.packed((4, 2)), lambda b, h, q, k: (q < 4) == (k < 4)),
    "dense": (Mask.dense(DENSE), lambda b, h, q, k: bool(DENSE[b, h, q, k])),
    "dense, one head": (Mask.dense(DENSE[:, :1]), lambda b, h, q, k: bool(DENSE[b, 0, q, k])),
    "dense, one row": (Mask.dense(DENSE[:1]), lambda b, h, q, k: bool(DENSE[0, h, q, k])),
}
TERMS["causal window of documents"] = (
    Mask.causal() & Mask.window(3) & Mask.documents(IDS),
    lambda b, h, q, k: k <= q and abs(q - k) < 3 and bool(IDS[b, q] == IDS[b, k]),
)
TERMS["causal and padding"] = (
    Mask.causal() & Mask.padding(PRESENT),
    lambda b, h, q, k: k <= q and bool(PRESENT[b, k]),
)


def written_out(definition: Definition, t: int) -> Tensor:
    rows = [[[[definition(b, h, q, k) for k in range(S)] for q in range(S - t, S)] for h in range(H)] for b in range(B)]
    return torch.tensor(rows)


def given_to_last(mask: Mask, t: int) -> Mask:
    """A dense array speaks of the queries it is given for: the last `t`."""
    return Mask.dense(mask.terms[0].array[:, :, S - t :]) if mask.terms and hasattr(mask.terms[0], "array") else mask


class Counter(TorchDispatchMode):
    """Counts the tensor operations that run inside it."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("t", [S, 3, 2, 1])
@pytest.mark.parametrize("name", TERMS)
def test_every_term_and_combination_is_its_definition(name: str, t: int) -> None:
    mask, definition = TERMS[name]
    mask, expected = given_to_last(mask, t), written_out(definition, t)
    visible = mask.visible(t, S, CPU)
    assert torch.equal(torch.ones(1, 1, t, S).bool().expand(B, H, -1, -1) if visible is None
                       else visible.expand(B, H, t, S), expected)  # fmt: skip
    tile = mask.tile(B, H, range(S - t, S), range(1, 5), CPU)
    assert tile is None or torch.equal(tile.expand(B, H, t, 4), expected[..., 1:5])
    for b, h, q, k in [(0, 0, S - t, 0), (1, 2, S - 1, 5), (1, 1, S - 1, 2)]:
        indices = (torch.tensor(i) for i in (b, h, q, k))
        assert mask.allows(*indices).item() == expected[b, h, q - (S - t), k]


@pytest.mark.parametrize("name", TERMS)
def test_a_tile_said_to_be_hidden_shows_nothing(name: str) -> None:
    mask, definition = TERMS[name]
    full = written_out(definition, S)
    hidden = 0
    for q in (range(0, 2), range(2, 5), range(5, 6)):
        for k in (range(0, 2), range(2, 5), range(5, 6)):
            if mask.hides(q, k):
                hidden += 1
                assert not full[:, :, q.start : q.stop, k.start : k.stop].any()
    assert (hidden > 0) == any(word in name for word in ("causal", "window"))


@pytest.mark.parametrize("name", TERMS)
def test_beyond_its_reach_a_query_sees_nothing(name: str) -> None:
    mask, definition = TERMS[name]
    full = written_out(definition, S)
    for q in (range(0, 2), range(2, 5), range(5, 6)):
        seen = mask.reach(q, S)
        assert not full[:, :, q.start : q.stop, : seen.start].any()
        assert not full[:, :, q.start : q.stop, seen.stop :].any()
    assert (mask.reach(range(2, 3), S) != slice(0, S)) == any(word in name for word in ("causal", "window"))


def test_one_new_token_under_a_causal_mask_builds_nothing() -> None:
    with Counter() as counter:
        assert Mask.causal().opened(1, 1000, CPU) == (None, None)
        assert (Mask.causal() & Mask.window(2000)).opened(1, 1000, CPU) == (None, None)
    assert counter.count == 0


def test_a_window_hides_nothing_up_to_its_size_and_something_beyond() -> None:
    assert Mask.window(S).visible(S, S, CPU) is None
    beyond = Mask.window(S - 1).visible(S, S, CPU)
    assert beyond is not None
    assert (~beyond).sum() == 2, "the first and the last place do not see each other"


def test_what_a_mask_was_lowered_to_is_kept_for_the_next_layer() -> None:
    mask = Mask.causal() & Mask.padding(PRESENT)
    first = mask.opened(S, S, CPU)
    with Counter() as counter:
        again = mask.opened(S, S, CPU)
    assert counter.count == 0
    assert again[0] is first[0]


def test_queries_that_see_nothing_are_named_and_opened() -> None:
    mask = Mask.causal() & Mask.padding(PRESENT)
    visible, blind = mask.opened(S, S, CPU)
    assert visible is not None
    assert blind is not None
    assert blind[:, 0, :, 0].tolist() == [[True, True, False, False, False, False], [False] * 6]
    assert visible[0, 0, :2].all()
    unopened = mask.visible(S, S, CPU)
    assert unopened is not None
    assert not unopened[0, 0, :2].any()
    assert torch.equal(visible[1], unopened[1])
    assert Mask.padding(PRESENT).opened(S, S, CPU)[1] is None, "each row has a real token"


def test_only_padding_and_dense_can_leave_a_query_blind() -> None:
    may = {name for name, (mask, _) in TERMS.items() if mask.may_hide_all}
    assert may == {"padding", "causal and padding", "dense", "dense, one head", "dense, one row"}


def test_is_causal_means_causal_and_nothing_else() -> None:
    assert Mask.causal().is_causal
    assert (Mask.causal() & Mask.causal()).is_causal
    assert not Mask().is_causal
    assert not (Mask.causal() & Mask.window(3)).is_causal


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask.window(0), "window size is 0"),
        (lambda: Mask.causal().visible(5, 4, CPU), "causal mask meets 5 queries and 4 keys"),
        (lambda: Mask.window(2).visible(5, 4, CPU), "window mask meets 5 queries and 4 keys"),
        (lambda: Mask.prefix(LENGTHS).visible(5, 4, CPU), "prefix mask meets 5 queries and 4 keys"),
        (lambda: Mask.documents(IDS).visible(7, 6, CPU), "documents mask meets 7 queries and 6 keys"),
        (lambda: Mask.documents(IDS).visible(7, 7, CPU), r"documents mask of shape \(2, 6\) meets 7 keys"),
        (lambda: Mask.packed((4, 3)).visible(6, 6, CPU), r"documents mask of shape \(1, 7\) meets 6 keys"),
        (lambda: Mask.padding(PRESENT).visible(5, 5, CPU), r"padding mask of shape \(2, 6\) meets 5 keys"),
        (lambda: Mask.dense(DENSE).visible(3, 6, CPU), r"dense mask of shape \(2, 3, 6, 6\) meets 3 queries"),
        (lambda: Mask.padding(PRESENT).check(3, 6, 6), "padding mask of 2 rows meets a batch of 3"),
        (lambda: Mask.prefix(LENGTHS).check(1, 6, 6), "prefix mask of 2 rows meets a batch of 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_masks_must_be_boolean(no_shape_checks: None) -> None:
    with pytest.raises(TypeError, match=r"padding mask has dtype torch.int64; expected torch.bool"):
        Mask.padding(PRESENT.long())
    with pytest.raises(TypeError, match=r"dense mask has dtype torch.float32; expected torch.bool"):
        Mask.dense(DENSE.float())
