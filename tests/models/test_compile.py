"""torch.compile takes each model whole, and torch.export its forward pass; both compute what eager mode computes."""

import pytest
import torch
from declared import DECLARED, Declared
from properties import build, close, close_gradients, gradients, ids

from glassformer.models.outputs import CausalLMOutput
from glassformer.parts import kernels

CASES = {case.name: case for case in DECLARED}
every_model = pytest.mark.parametrize("case", DECLARED, ids=lambda c: c.name)
# One of each family goes through code generation too, which takes tens of seconds; the rest stop at the graph.
FAMILIES = [CASES[name] for name in ("bigram", "gpt", "gpt2", "llama-grouped-biased")]


def compiled_equals_eager(case: Declared, backend: str) -> None:
    model, x = build(case, torch.float32), ids(case)
    expected = model(x, labels=x)
    expected.loss.backward()
    wanted = gradients(model)
    model.zero_grad()
    torch._dynamo.reset()
    out = torch.compile(model, fullgraph=True, backend=backend)(x, labels=x)
    out.loss.backward()
    close(out.logits, expected.logits, 1e-5, "logits")
    close_gradients(gradients(model), wanted, 1e-4)


@every_model
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_whole_model_is_one_graph(case: Declared) -> None:
    compiled_equals_eager(case, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("case", FAMILIES, ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_code_equals_eager_in_logits_loss_and_gradients(case: Declared) -> None:
    compiled_equals_eager(case, "inductor")


@pytest.mark.parametrize("attend", ["reference", "products", "sdpa"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kernels_written_in_torch_operations_compile_whole_with_padding(attend: str) -> None:
    case = CASES["llama-grouped-biased"]
    model, x = build(case, torch.float32), ids(case)
    present = torch.ones_like(x)
    present[1, :5] = 0
    torch._dynamo.reset()
    with kernels(model, attend=attend), torch.no_grad():
        expected = model(x, present).logits[present.bool()]
        out = torch.compile(model, fullgraph=True, backend="eager")(x, present).logits[present.bool()]
    close(out, expected, 1e-5, attend)


@every_model
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_exported_program_equals_eager_at_other_sizes(case: Declared) -> None:
    model = build(case, torch.float32)
    shapes = {"input_ids": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    program = torch.export.export(model, (ids(case),), dynamic_shapes=shapes)
    x = ids(case, batch=5, length=23)
    out = program.module()(x)
    assert isinstance(out, CausalLMOutput)
    close(out.logits, model(x).logits, 1e-5, "logits")
