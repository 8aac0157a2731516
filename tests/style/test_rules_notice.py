"""Each house rule notices what it forbids, and lets what it allows pass: the rules' own tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rules
from house import Module

Rule = Callable[[list[Module]], Iterator[str]]


def complaints(rule: Rule, files: dict[str, str]) -> list[str]:
    """What `rule` says of modules given as `{"room/file": "source"}`."""
    return list(rule([Module(Path(f"{name}.py"), text) for name, text in files.items()]))


LONG = "\n".join(["'''Long.'''", *["x = 1"] * 300])
LONG_FUNCTION = "\n".join(["'''Long.'''", "def f():", *["    x = 1"] * 60])
TWELVE = ", ".join(f"a{i}" for i in range(12))
METHOD = "\n".join(["'''D.'''", "class A:", "    '''D.'''", "    def {0}(self):", *["        x = 1"] * 12])


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (rules.upward_imports, "parts/a", "from glassformer.models.gpt2 import GPT2"),
        (rules.upward_imports, "ops/a", "def f():\n    import glassformer.parts.linear"),
        (rules.upward_imports, "ops/a", "from glassformer import parts"),
        (rules.upward_imports, "ops/a", "from ..parts import linear"),
        (rules.upward_imports, "ops/a", "from .. import models"),
        (rules.upward_imports, "text/a", "from glassformer import GPT2"),
        (rules.upward_imports, "models/a", "import importlib\nimportlib.import_module('glassformer.training.loop')"),
        (rules.upward_imports, "training/a", "from glassformer.by_hand.parts import linear"),
        (rules.unknown_rooms, "attic/a", ""),
        (rules.by_hand_imports, "by_hand/a", "import torch"),
        (rules.by_hand_imports, "by_hand/a", "def f():\n    from glassformer.ops.mask import Mask"),
        (rules.by_hand_imports, "by_hand/a", "from glassformer import __version__"),
        (rules.too_many_arguments, "parts/a", f"def f({TWELVE}, more): ..."),
        (rules.too_many_arguments, "parts/a", f"class A:\n    def __init__(self, *, {TWELVE}, more): ..."),
        (rules.too_long, "models/a", LONG),
        (rules.too_long, "by_hand/models/a", LONG),
        (rules.too_long, "parts/a", LONG_FUNCTION),
        (rules.concrete_inheritance, "parts/a", "class A: ...\nclass B(A): ..."),
        (rules.concrete_inheritance, "parts/a", "class A: ...\nclass B(A[int], ABC): ..."),
        (rules.missing_docstrings, "parts/a", "x = 1"),
        (rules.missing_docstrings, "parts/a", "'''M.'''\ndef f(): ..."),
        (rules.missing_docstrings, "parts/a", "'''M.'''\nclass A: ..."),
        (rules.missing_docstrings, "parts/a", METHOD.format("run")),
        (rules.swallowed_errors, "parts/a", "try: f()\nexcept Exception: pass"),
        (rules.swallowed_errors, "parts/a", "try: f()\nexcept (OSError, BaseException): ..."),
        (rules.swallowed_errors, "parts/a", "try: f()\nexcept: g()"),
        (rules.swallowed_errors, "parts/a", "with contextlib.suppress(Exception): f()"),
        (rules.silent_errors, "parts/a", "assert x > 0"),
        (rules.silent_errors, "parts/a", "raise ValueError"),
        (rules.silent_errors, "parts/a", "raise KeyError()"),
        (rules.silent_errors, "parts/a", "raise Exception('what?')"),
        (rules.unsafe_loading, "parts/a", "import pickle"),
        (rules.unsafe_loading, "parts/a", "def f():\n    from joblib import load"),
        (rules.unsafe_loading, "parts/a", "torch.load(path, weights_only=True)"),
        (rules.unsafe_loading, "parts/a", "np.load(path, allow_pickle=True)"),
        (rules.unfinished, "parts/a", "x = 1  # TO" + "DO later"),
    ],
)
def test_a_rule_notices(rule: Rule, path: str, source: str) -> None:
    assert len(complaints(rule, {path: source})) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (rules.upward_imports, "models/a", "from glassformer.parts import Linear\nimport glassformer.ops.mask"),
        (rules.upward_imports, "ops/a", "if TYPE_CHECKING:\n    from glassformer.models.gpt2 import GPT2"),
        (rules.upward_imports, "training/a", "from glassformer import __version__"),
        (rules.upward_imports, "explorer/a", "from glassformer.by_hand.models import gpt2"),
        (rules.upward_imports, "ops/a", "from . import mask\nfrom .mask import Mask"),
        (rules.by_hand_imports, "by_hand/a", "import math\nimport numpy as np\nfrom glassformer.by_hand import parts"),
        (rules.by_hand_imports, "by_hand/a", "if TYPE_CHECKING:\n    import torch"),
        (rules.too_many_arguments, "parts/a", f"class A:\n    def __init__(self, *, {TWELVE}): ..."),
        (rules.too_long, "parts/a", LONG),
        (rules.concrete_inheritance, "parts/a", "class A(ABC): ...\nclass B(A): ...\nclass C(Protocol[T]): ..."),
        (
            rules.concrete_inheritance,
            "parts__a",
            "class A:\n @abstractmethod\n def f(self): ...\nclass B(A): ...",
        ),
        (rules.concrete_inheritance, "parts/a", "class A(ValueError): ...\nclass B(A): ..."),
        (rules.concrete_inheritance, "parts/a", "class B(nn.Module): ..."),
        (rules.missing_docstrings, "parts/a", ""),
        (rules.missing_docstrings, "parts/a", "'''M.'''\ndef _f(): ...\nclass _A: ..."),
        (rules.missing_docstrings, "parts/a", METHOD.format("forward")),
        (rules.missing_docstrings, "parts/a", METHOD.format("run") + "\nclass _A:\n    def run(self): 'D.'"),
        (rules.swallowed_errors, "parts/a", "try: f()\nexcept Exception as error: raise ValueError('x') from error"),
        (rules.swallowed_errors, "parts/a", "try: f()\nexcept FileNotFoundError: pass"),
        (rules.silent_errors, "parts/a", "raise\nraise ValueError(f'x={x}')\nraise error\nraise StopIteration"),
        (rules.silent_errors, "parts/a", "assert x is not None\nassert isinstance(x, int)\nassert x > 0, 'x grows'"),
        (rules.unsafe_loading, "parts/a", "np.load(path, allow_pickle=False)"),
    ],
)
def test_a_rule_lets_pass(rule: Rule, path: str, source: str) -> None:
    assert complaints(rule, {path: source}) == []


def test_concrete_inheritance_is_noticed_through_a_package_that_passes_names_on() -> None:
    found = complaints(
        rules.concrete_inheritance,
        {
            "parts/__init__": "from glassformer.parts.linear import Linear",
            "parts/linear": "class Linear(nn.Module): ...",
            "models/a": "from glassformer.parts import Linear\nclass Mine(Linear): ...",
        },
    )
    assert found == ["models/a.py:2: Mine inherits Linear, which is concrete"]


def test_two_rooms_that_import_each_other_are_noticed() -> None:
    one, other = "from glassformer.text import x", "from glassformer.checkpoints import y"
    assert complaints(rules.rooms_in_a_circle, {"checkpoints/a": one, "text/b": "import os"}) == []
    assert len(complaints(rules.rooms_in_a_circle, {"checkpoints/a": one, "text/b": other})) == 1


def test_extras_are_noticed_at_the_top_and_what_is_not_declared_everywhere() -> None:
    def found(source: str) -> list[str]:
        return complaints(
            lambda modules: rules.undeclared_imports(modules, {"torch"}, {"tiktoken"}), {"text/a": source}
        )

    assert found("import os\nimport torch.nn\ndef f():\n    import tiktoken") == []
    assert "the extra tiktoken" in found("import tiktoken")[0]
    assert "does not declare" in found("def f():\n    import pandas")[0]
