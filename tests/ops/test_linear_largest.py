"""The largest number of a product, found without most of its rows, is the largest: whatever the numbers are."""

import pytest
import torch

from glassformer.ops import linear_largest, machine
from glassformer.ops.linear import Measured
from glassformer.ops.linear_largest import Largest, candidates, screen


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch):
    monkeypatch.setattr(linear_largest, "WORTH", 0)
    monkeypatch.setattr(linear_largest, "FEW", 1.0)
    monkeypatch.setattr(machine, "int8_pays", lambda: True)


def places(x, weight, bias=None):
    """The largest in float64; of equals the first."""
    y = x.double() @ weight.double().t()
    return (y if bias is None else y + bias.double()).max(1).indices


def found(x, weight, bias=None, largest=None):
    """What is found, by a new one."""
    out = (largest or Largest())(x, weight, bias)
    assert out is not None
    return out


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_it_is_the_largest_of_all(rows, scale):
    torch.manual_seed(0)
    weight, bias = torch.randn(1100, 48) * scale, torch.randn(1100) * scale
    weight[7] *= 30  # a row that stands out
    for _ in range(20):
        x = torch.randn(rows, 48)
        assert found(x, weight).equal(places(x, weight))
        assert found(x, weight, bias).equal(places(x, weight, bias))


def test_rows_that_differ_by_less_than_the_copy_can_say_are_told_apart():
    torch.manual_seed(0)
    weight = torch.randn(1, 64).repeat(600, 1) + 1e-4 * torch.randn(600, 64)
    for _ in range(10):
        x = torch.randn(1, 64)
        assert found(x, weight).equal(places(x, weight))


def test_the_bound_holds_where_the_copy_is_as_wrong_as_it_can_be():
    torch.manual_seed(0)
    weight = torch.randn(512, 64)
    of = screen(weight)
    wrong = of.rows * of.scale.float()[:, None] - weight
    for row in range(0, 512, 16):
        for x in (wrong[row : row + 1], -wrong[row : row + 1]):
            assert places(x, weight)[0] in candidates(x, of, None)
            true = (weight.double() @ x[0].double()) - weight[row].double() @ x[0].double()
            bound = x.norm() * (of.slack + of.slack[row])
            copied = (of.rows * of.scale.float()[:, None]).double() @ x[0].bfloat16().double()
            assert ((copied - copied[row] - true).abs() <= bound).all()


def test_two_rows_may_be_wrong_in_opposite_ways():
    """The copy takes the second largest for much more than it is, and the largest for much less."""
    torch.manual_seed(0)
    for _ in range(20):
        whole = torch.randint(-3, 4, (2, 64)).float()
        whole[:, 0], whole[:, 1] = 127.0, torch.tensor([0.0, 100.0])  # the scale of both rows is 1
        wrong = torch.empty(2, 64).uniform_(-0.45, 0.45)
        wrong[:, :2] = 0
        x = (wrong[0] - wrong[1])[None].bfloat16().float()
        weight = whole - wrong
        x[0, 1] = (0.02 - (weight[1] - weight[0]) @ x[0]) / 100
        assert places(x, weight).tolist() == [1]
        of = screen(weight)
        assert torch.equal(of.rows.float(), whole)
        assert (whole @ x[0]).argmax() == 0
        assert found(x, weight).tolist() == [1]


def test_where_the_copy_is_exact_the_rounding_of_x_may_still_decide():
    x, weight = torch.ones(1, 64), torch.zeros(2, 64)
    x[0, 0], x[0, 1], x[0, 2:33] = 0.0, 2.0**-8, 1.0019  # as bfloat16 it is 1
    weight[:, 0] = 127.0  # the scale of both rows is 1
    weight[1, 1], weight[1, 2:33], weight[1, 33:] = -7.0, 1.0, -1.0
    assert torch.equal(screen(weight).rows.float(), weight)
    assert (weight @ x[0].bfloat16().float()).tolist() == [0, -7 / 256]
    assert found(x, weight).tolist() == places(x, weight).tolist() == [1]


def test_of_equal_rows_it_is_the_first():
    torch.manual_seed(0)
    weight = torch.randn(700, 32)
    for first, last in ((0, 699), (13, 14), (255, 600)):
        x = torch.randn(1, 32)
        weight[first] = weight[last] = x[0]
        assert found(x, weight).tolist() == [first]


def test_few_rows_are_left_of_normal_weights():
    torch.manual_seed(0)
    weight = torch.randn(8192, 256)
    left = [len(candidates(torch.randn(1, 256), screen(weight), None)) for _ in range(5)]
    assert min(left) >= 1
    assert max(left) < 8192 / 64


@pytest.mark.parametrize("what", ["a NaN in x", "an infinity in x", "a NaN in W", "an infinity in W"])
def test_what_is_not_finite_is_left_to_the_whole_product(what):
    x, weight = torch.randn(1, 32), torch.randn(64, 32)
    (x if what.endswith("x") else weight)[0, 3] = float("nan" if "NaN" in what else "inf")
    assert Largest()(x, weight, None) is None


@pytest.mark.parametrize(
    ("outcomes", "tries"),
    [("wrong wrong wrong", [0, 5, 14]), ("wrong wrong right right wrong wrong", [0, 5, 14, 15, 16, 21])],
)
def test_after_too_many_rows_it_pauses_longer_each_time_and_less_long_when_it_was_right(outcomes, tries, monkeypatch):
    monkeypatch.setattr(linear_largest, "FEW", 1 / 32)
    left, weight = iter(outcomes.split()), torch.randn(64, 32)
    monkeypatch.setattr(linear_largest, "candidates", lambda *_: torch.arange(64 if next(left) == "wrong" else 2))
    largest, looked = Largest(), []
    monkeypatch.setattr(largest, "_screen", lambda *_: looked.append(call))
    call = 0
    while len(looked) < len(tries):
        place = largest(torch.randn(1, 32), weight, None)
        assert (place is None) == (looked[-1] != call or outcomes.split()[len(looked) - 1] == "wrong")
        call += 1
    assert looked == tries


def test_a_changed_weight_is_copied_anew():
    torch.manual_seed(0)
    kernel, weight = Measured(), torch.nn.Parameter(torch.randn(300, 32))
    x = torch.randn(1, 32)
    assert found(x, weight, None, kernel.largest).equal(places(x, weight))
    with torch.no_grad():
        weight.neg_()
    assert found(x, weight, None, kernel.largest).equal(places(x, weight))
    weight.data[100:] = 2 * x  # seen by no counter, and the beginning is as it was
    kernel.forget()
    assert found(x, weight, None, kernel.largest).tolist() == [100]


def test_it_is_asked_only_where_it_is_faster(monkeypatch):
    x, weight = torch.randn(1, 32), torch.randn(64, 32)
    assert Largest()(x, weight, None) is not None
    assert Largest()(x.double(), weight.double(), None) is None
    assert Largest()(x.bfloat16(), weight.bfloat16(), None) is None
    assert Largest()(torch.randn(5, 32), weight, None) is None
    assert Largest()(torch.randn(1, 24), torch.randn(64, 24), None) is None
    with torch.inference_mode():
        assert Largest()(x, weight.clone(), None) is None
    with monkeypatch.context() as patch:
        patch.setattr(machine, "int8_pays", lambda: False)
        assert Largest()(x, weight, None) is None
    monkeypatch.setattr(linear_largest, "WORTH", 64 * 32 + 1)
    assert Largest()(x, weight, None) is None
