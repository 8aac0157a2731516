"""torch.compile takes each model whole, and torch.export its forward pass; both compute what eager mode computes."""

from dataclasses import replace

import pytest
import torch
from declared import DECLARED, Declared
from declared_decoders import DECODERS
from properties import (
    LEFT,
    build,
    close_gradients,
    close_outputs,
    gradients,
    loss_and_gradients,
    real,
    run,
    without_labels,
)

from glassformer.parts import kernels

CASES = {case.name: case for case in DECLARED}
# Other settings of a class that are another wiring: its graph is not the first one's with other numbers in it.
REWIRED = ("llama-grouped-biased", "llama-dynamic", "umt5", "dinov2-gated", "timesformer-joint", "timesformer-space")


def one_of_each_wiring(cases: list[Declared]) -> list[Declared]:
    """The first of each class, and what is wired in another way: a graph takes seconds, whatever the settings."""
    first = {case.model: "mask2former-few" if case.name == "mask2former" else case.name for case in reversed(cases)}
    return [case for case in cases if case.name in first.values() or case.name in REWIRED]


# How many tubelets a mask hides is known when it is seen, not when the graph is made.
OF_ONE_GRAPH = one_of_each_wiring([case for case in DECLARED if case.kind.name != "masked video"])
every_model = pytest.mark.parametrize("case", OF_ONE_GRAPH, ids=lambda c: c.name)
# Code is generated for each operation of a graph, the same whoever asks for it, and takes tens of seconds: two that
# share none of their norms, positions, feed-forward layers and heads, a block of each, stand for the rest.
GENERATED = [
    replace(case, config=replace(case.config, num_layers=1))
    for case in (CASES[name] for name in ("gpt2", "llama-grouped-biased"))
]


def compiled_equals_eager(case: Declared, backend: str) -> None:
    model, inputs = build(case, torch.float32), case.inputs()
    expected, (_, wanted) = run(model, inputs), loss_and_gradients(model, inputs)
    model.zero_grad()
    torch._dynamo.reset()
    torch.manual_seed(0)  # as `run` does
    out = torch.compile(model, fullgraph=True, backend=backend)(**inputs)
    out.loss.backward()
    assert type(out) is type(model(**inputs))
    close_outputs(
        {name: value for name, value in vars(out).items() if isinstance(value, torch.Tensor)}, expected, 1e-5, backend
    )
    close_gradients(gradients(model), wanted, 1e-4)


@every_model
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_whole_model_is_one_graph(case: Declared) -> None:
    compiled_equals_eager(case, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("case", GENERATED, ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_code_equals_eager_in_outputs_loss_and_gradients(case: Declared) -> None:
    compiled_equals_eager(case, "inductor")


@pytest.mark.parametrize("attend", ["reference", "products", "sdpa"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kernels_written_in_torch_operations_compile_whole_with_padding(attend: str) -> None:
    case = CASES["llama-grouped-biased"]
    assert case.kind.pad is not None
    model, inputs = build(case, torch.float32), without_labels(case, case.kind.pad(case.inputs(), LEFT))
    torch._dynamo.reset()
    with kernels(model, attend=attend), torch.no_grad():
        expected = real(case, run(model, inputs), inputs)
        out = torch.compile(model, fullgraph=True, backend="eager")(**inputs)
    close_outputs(real(case, {"logits": out.logits}, inputs), expected, 1e-5, attend)


@pytest.mark.parametrize("case", one_of_each_wiring(DECODERS), ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_exported_program_equals_eager_at_other_sizes(case: Declared) -> None:
    model = build(case, torch.float32)
    shapes = {"input_ids": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    example, other = (without_labels(case, case.inputs(batch, seed=batch)) for batch in (3, 5))
    other["input_ids"] = torch.cat([other["input_ids"], other["input_ids"][:, :6]], dim=1)
    program = torch.export.export(model, (), example, dynamic_shapes=shapes)
    out = program.module()(**other)
    assert type(out) is type(model(**other))
    close_outputs({"logits": out.logits}, run(model, other), 1e-5, "exported")
