import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.training import AdamWConfig, Lion, LionConfig, ModelOptimizer, Muon, MuonConfig
from glassformer.training.optimizers import OptimizerConfig, newton_schulz

SHAPES = [(6, 10), (10, 6), (8, 8), (8, 8), (10, 6)]
SMALL = GPT2Config(vocab_size=11, max_positions=8, dim=8, num_layers=2, num_heads=2)


def matrices(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def descend(parameters: list[nn.Parameter], step: Callable[[], object], steps: int = 100) -> list[Tensor]:
    """Take `steps` steps on a loss whose gradient differs from step to step."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.grad = 0.3 * parameter.detach() + noise
        step()
    return [parameter.detach() for parameter in parameters]


def test_lion_equals_its_papers_algorithm_over_100_steps() -> None:
    parameters = matrices(torch.float64)
    optimizer = Lion(parameters, lr=1e-2, betas=(0.9, 0.97), weight_decay=0.3)
    found = descend(parameters, optimizer.step)

    expected = matrices(torch.float64)
    momenta = [torch.zeros_like(parameter) for parameter in expected]

    @torch.no_grad()
    def algorithm_2() -> None:
        for theta, m in zip(expected, momenta, strict=True):
            g = theta.grad
            assert g is not None
            c = 0.9 * m + (1 - 0.9) * g
            theta.copy_(theta - 1e-2 * (torch.sign(c) + 0.3 * theta))
            m.copy_(0.97 * m + (1 - 0.97) * g)

    for ours, theirs in zip(found, descend(expected, algorithm_2), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_muon_equals_torchs_over_100_steps(dtype: torch.dtype) -> None:
    ours, theirs = matrices(dtype), matrices(dtype)
    found = descend(ours, Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.2).step)
    expected = descend(theirs, torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.2, nesterov=True).step)
    start = matrices(dtype)
    for a, b, before in zip(found, expected, start, strict=True):
        # Both orthogonalise in bfloat16, ours in a batch: its roundings (2⁻⁹ of a step) add up over 100 steps.
        assert (a - b).norm() < 2e-2 * (b - before).norm()


def test_muons_first_step_equals_torchs_to_a_rounding_of_bfloat16() -> None:
    ours, theirs = matrices(), matrices()
    found = descend(ours, Muon(ours, lr=1.0, weight_decay=0.0).step, steps=1)
    expected = descend(theirs, torch.optim.Muon(theirs, lr=1.0, weight_decay=0.0).step, steps=1)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-2)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 9), (16, 64)])
def test_newton_schulz_makes_singular_values_nearly_equal_and_keeps_their_vectors(rows: int, columns: int) -> None:
    matrix = torch.randn(3, rows, columns, dtype=torch.float64)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ newton_schulz(matrix, dtype=torch.float64) @ vt.mT
    sizes = inner.diagonal(dim1=-2, dim2=-1)
    assert (inner - torch.diag_embed(sizes)).abs().max() < 1e-10
    assert 0.3 < sizes.min() <= sizes.max() < 1.3


def test_newton_schulz_of_nothing_is_nothing() -> None:
    assert newton_schulz(torch.zeros(2, 3, 4)).eq(0).all()


def test_muon_refuses_what_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"not a parameter of shape \(4,\)"):
        Muon([nn.Parameter(torch.zeros(4))])


@pytest.mark.parametrize("optimizer", [Lion, Muon])
def test_a_closure_is_refused_not_ignored(optimizer: Callable[..., Lion | Muon]) -> None:
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer(matrices()).step(lambda: 0.0)


def groups_by_name(config: OptimizerConfig) -> dict[str, tuple[str, float, float]]:
    """Parameter -> (optimizer, weight decay, peak rate)."""
    model = GPT2(SMALL)
    optimizer = ModelOptimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (type(one).__name__, group["weight_decay"], group["peak"])
        for one in optimizer.optimizers
        for group in one.param_groups
        for parameter in group["params"]
    }


def test_every_parameter_is_moved_and_only_linear_matrices_decay() -> None:
    found = groups_by_name(AdamWConfig(weight_decay=0.2))
    assert found.keys() == dict(GPT2(SMALL).named_parameters()).keys()
    decayed = {name for name, (_, decay, _) in found.items() if decay == 0.2}
    assert decayed == {name for name in found if name.startswith("blocks.") and name.endswith("weight")
                       and "norm" not in name}  # fmt: skip
    assert all(decay == 0.0 for name, (_, decay, _) in found.items() if name not in decayed)


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    found = groups_by_name(MuonConfig(learning_rate=0.5, other_learning_rate=0.25))
    moved = {name for name, (kind, _, rate) in found.items() if kind == "Muon" and rate == 0.5}
    rest = {name for name, (kind, _, rate) in found.items() if kind == "AdamW" and rate == 0.25}
    assert moved == {name for name in found if name.startswith("blocks.") and name.endswith("weight")
                     and "norm" not in name}  # fmt: skip
    assert moved | rest == found.keys()
    assert {"embed.weight", "position.weight", "norm.weight", "blocks.0.attention.query.bias"} <= rest


CONFIGS = [AdamWConfig(), LionConfig(), MuonConfig()]


def step_once(model: GPT2, optimizer: ModelOptimizer, seed: int) -> None:
    ids = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    loss = model(ids, labels=ids).loss
    assert loss is not None
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_state_goes_on_to_the_bit(config: OptimizerConfig) -> None:
    model = GPT2(SMALL).eval()
    optimizer = ModelOptimizer(model, config)
    for seed in range(3):
        step_once(model, optimizer, seed)
    saved = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    other = GPT2(SMALL).eval()
    other.load_state_dict(model.state_dict())
    taken_up = ModelOptimizer(other, config)
    taken_up.load_state_dict(saved)
    for seed in range(3, 6):
        step_once(model, optimizer, seed)
        step_once(other, taken_up, seed)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert a.equal(b)


def test_the_state_is_tensors_under_the_parameters_names() -> None:
    model = GPT2(SMALL)
    optimizer = ModelOptimizer(model, MuonConfig())
    step_once(model, optimizer, 0)
    state = optimizer.state_dict()
    assert {"blocks.0.attention.query.weight:momentum", "embed.weight:exp_avg", "embed.weight:step"} <= state.keys()
    assert all(isinstance(tensor, Tensor) for tensor in state.values())


def test_a_state_that_does_not_fit_is_refused() -> None:
    optimizer = ModelOptimizer(GPT2(SMALL), AdamWConfig())
    with pytest.raises(ValueError, match=r"no parameter 'blocks\.9\.gain'"):
        optimizer.load_state_dict({"blocks.9.gain:exp_avg": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"has shape \(3,\); its parameter has \(11, 8\)"):
        optimizer.load_state_dict({"embed.weight:exp_avg": torch.zeros(3)})


def test_the_factor_scales_every_groups_peak() -> None:
    optimizer = ModelOptimizer(GPT2(SMALL), MuonConfig(learning_rate=0.04, other_learning_rate=0.002))
    optimizer.set_factor(0.5)
    assert optimizer.learning_rate == 0.02
    assert sorted({group["lr"] for group in optimizer.groups()}) == [0.001, 0.02]
    optimizer.set_factor(1.0)
    assert optimizer.learning_rate == 0.04


def test_adamw_equals_the_equations_of_its_paper_over_100_steps() -> None:
    model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    start = model.weight.detach().clone()
    optimizer = ModelOptimizer(model, AdamWConfig(learning_rate=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1))
    (found,) = descend([model.weight], optimizer.step)
    theta = nn.Parameter(start)
    m, v, t = torch.zeros_like(start), torch.zeros_like(start), 0

    @torch.no_grad()
    def algorithm_2() -> None:
        nonlocal t
        t += 1
        assert theta.grad is not None
        m.mul_(0.9).add_(0.1 * theta.grad)
        v.mul_(0.99).add_(0.01 * theta.grad**2)
        theta.mul_(1 - 1e-2 * 0.1)
        theta.sub_(1e-2 * (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-8))

    (expected,) = descend([theta], algorithm_2)
    assert math.isclose((found - expected).abs().max(), 0.0, abs_tol=1e-12)
