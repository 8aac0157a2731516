"""One self-contained page about a run: how the loss fell, what it writes, where each head looks."""

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.foundation.atomic import atomic_file

Curve = list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows.

    train, validation   (step, loss in nats per token)
    bigram              the baseline's validation loss
    tokens, attention   a sentence, and the weights of each head on it: (layers, heads, t, t)
    numbers, facts      (value, label) large at the top; (name, value) in the table at the end
    """

    title: str
    subtitle: str
    train: Curve
    validation: Curve
    bigram: float
    prompt: str
    sample: str
    tokens: list[str]
    attention: Float[Tensor, "layers heads t t"]
    twin: str
    numbers: list[tuple[str, str]]
    facts: list[tuple[str, str]]

    def to_html(self) -> str:
        """The page as text: no other file, no network."""
        layers, heads = self.attention.shape[:2]
        pixels = (self.attention.float().clamp(0, 1) * 255).round().to(torch.uint8)
        data = {name: value for name, value in vars(self).items() if name != "attention"}
        data |= {"layers": layers, "heads": heads, "attention": base64.b64encode(pixels.numpy().tobytes()).decode()}
        text = json.dumps(data).replace("<", "\\u003c")  # so that no text of a sample can end the script element
        template = files("glassformer.explorer").joinpath("report.html").read_text(encoding="utf-8")
        return template.replace("__DATA__", text)

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all."""
        with atomic_file(path) as file:
            file.write(self.to_html().encode())
        return path
