"""The page of a run is one file that holds all it shows; the twin check sees a difference where there is one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer.by_hand.parts.norm import LayerNorm as LayerNormByHand
from glassformer.explorer.report import Report
from glassformer.explorer.twin import compare_with_by_hand
from glassformer.models.gpt2 import GPT2, GPT2Config


def report(**changes) -> Report:
    attention = torch.softmax(torch.randn(2, 3, 4, 4), -1)
    values = dict(
        title="A run", subtitle="small", train=[(1, 3.0), (2, 2.0)], validation=[(2, 2.5)], bigram=2.6, prompt="The ",
        sample="end </script><script>alert(1)</script> & é ⏎", tokens=list("a<b\n"), attention=attention,
        twin="equal", numbers=[("2.5", "loss")], facts=[("Machine", "this one")],
    )  # fmt: skip
    return Report(**values | changes)


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_page_holds_what_it_was_given_whatever_the_sample_says(tmp_path: Path) -> None:
    page = report().write(tmp_path / "report.html").read_text(encoding="utf-8")
    data = data_of(page)
    assert data["sample"] == "end </script><script>alert(1)</script> & é ⏎"
    assert data["tokens"] == ["a", "<", "b", "\n"]
    assert (data["layers"], data["heads"]) == (2, 3)


def test_page_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    page = report().to_html()
    without_namespaces = page.replace("http://www.w3.org/2000/svg", "")
    assert "http" not in without_namespaces
    assert not re.search(r'<(link|img|iframe)|src="', page)


def test_attention_is_kept_to_a_part_in_255() -> None:
    import base64

    given = report()
    data = data_of(given.to_html())
    pixels = np.frombuffer(base64.b64decode(data["attention"]), np.uint8).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(pixels / 255, given.attention.numpy(), atol=0.5 / 255 + 1e-7)


def twins() -> tuple[GPT2, torch.Tensor, torch.Tensor]:
    model = GPT2(GPT2Config(vocab_size=11, max_positions=8, dim=16, num_layers=2, num_heads=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    ids = torch.randint(11, (2, 8))
    return model, ids, ids.roll(-1, 1)


def test_twins_agree_to_rounding_in_float64() -> None:
    assert compare_with_by_hand(*twins()).largest < 1e-12


def test_twin_check_sees_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LayerNormByHand.forward
    monkeypatch.setattr(LayerNormByHand, "forward", lambda self, x: right(self, x) * (1 + 1e-6))
    assert compare_with_by_hand(*twins()).largest > 1e-8
