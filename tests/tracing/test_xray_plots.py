"""Pictures are titled, labelled, and show the numbers of the trace."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.models import GPT2, GPT2Config
from glassformer.tracing import Trace, xray
from glassformer.tracing.plots import figure, write_figure

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def trace() -> Trace:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=61, dim=32, num_layers=2, num_heads=4, max_positions=32)).eval()
    with torch.no_grad():
        found = xray(model, torch.arange(7)[None], attention=True)
    found.tokens = list("abc def")
    return found


def test_attention_is_drawn_head_by_head_with_its_tokens(trace: Trace, tmp_path: Path) -> None:
    figure = trace.plot_attention(1, path=f"{tmp_path}/attention.png")
    assert (tmp_path / "attention.png").stat().st_size > 5000
    heads = [axis for axis in figure.axes if axis.get_title().startswith("head")]
    assert len(heads) == 4
    for head, axis in enumerate(heads):
        drawn = np.asarray(axis.images[0].get_array())
        np.testing.assert_array_equal(drawn, trace.attention(1)[0, head].numpy())
        assert axis.images[0].get_clim() == (0, 1)
        assert [label.get_text() for label in axis.get_xticklabels()] == list("abc␣def")
    assert "blocks.1.attention" in figure.get_suptitle()
    with pytest.raises(IndexError, match="the batch has 1"):
        trace.plot_attention(0, row=1)
    with pytest.raises(IndexError, match="2 layers attended"):
        trace.plot_attention(2)


def test_memory_time_and_statistics_are_drawn_with_units(trace: Trace, tmp_path: Path) -> None:
    memory = trace.plot_memory(path=f"{tmp_path}/memory.png").axes[0]
    assert max(memory.lines[0].get_ydata()) * 1e6 == pytest.approx(trace.peak)  # pyright: ignore
    assert "MB" in memory.get_ylabel()
    seconds, flops = trace.plot_time(depth=2, path=f"{tmp_path}/time.png").axes
    assert sum(bar.get_width() for bar in flops.patches) * 1e6 <= trace.flops  # pyright: ignore
    assert (seconds.get_xlabel(), flops.get_xlabel()) == ("time, ms", "products, MFLOP")
    names = [label.get_text() for label in seconds.get_yticklabels()]
    assert "blocks.0.attention" in names
    assert "blocks.0" not in names
    sizes = trace.plot_statistics("blocks.*", path=f"{tmp_path}/sizes.png").axes[0]
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["blocks.0", "blocks.1"]
    with pytest.raises(ValueError, match=r"no activation is called 'blocks\.9'"):
        trace.plot_statistics("blocks.9")
    with pytest.raises(ValueError, match="depth 9"):
        trace.plot_time(depth=9)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = figure(1, 1, (2, 2))
    write_figure(tmp_path / "a.svg", made)
    write_figure(tmp_path / "b", made)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "b.png").read_bytes()

    def half(file: Any, **_: object) -> None:
        file.write(b"half")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(made, "savefig", half)
    with pytest.raises(OSError, match=r"Input/output error: .*b\.png was not written"):
        write_figure(tmp_path / "b.png", made)
    assert (tmp_path / "b.png").read_bytes() == before
