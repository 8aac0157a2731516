"""A character GPT, trained: text to ids, batches, the loop, and what the model writes."""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.generation import stream
from glassformer.by_hand.models.gpt2 import GPT2, GPT2Config
from glassformer.by_hand.ops.cross_entropy import cross_entropy
from glassformer.by_hand.optimizers import AdamW, clip_gradients, cosine_schedule


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line sets. Raises ValueError for what cannot be trained."""

    steps: int = 1500
    layers: int = 4
    dim: int = 128
    heads: int = 4
    context: int = 64
    batch: int = 12
    sample: int = 500
    seed: int = 0
    learning_rate: float = 2e-3
    text: str | None = None

    def __post_init__(self) -> None:
        least = {"steps": 1, "layers": 1, "dim": 1, "heads": 1, "context": 2, "batch": 1, "sample": 0, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"--{name} {getattr(self, name)} is out of range; expected {low} or more")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning-rate {self.learning_rate} is out of range; expected a number above 0")
        if self.dim % self.heads:
            raise ValueError(f"--heads {self.heads} does not divide --dim {self.dim}; choose a divisor")


class Characters:
    """A text as ids, one for each of its characters, split 90 to 10 into training and validation."""

    def __init__(self, text: str, context: int) -> None:
        if len(text) < 10 * (context + 1):
            raise ValueError(f"the text has {len(text)} characters; for --context {context} it needs "
                             f"{10 * (context + 1)} or more, a tenth of it for validation")  # fmt: skip
        self.characters = sorted(set(text))
        ids = {character: i for i, character in enumerate(self.characters)}
        tokens = np.array([ids[character] for character in text])
        cut = len(text) * 9 // 10
        self.train, self.validation = tokens[:cut], tokens[cut:]

    def bigram_loss(self) -> float:
        """What counting pairs achieves on the validation text: −mean log p(next | this), one added to every count."""
        v = len(self.characters)
        pairs = np.bincount(self.train[:-1] * v + self.train[1:], minlength=v * v).reshape(v, v) + 1.0
        table = np.log(pairs / pairs.sum(-1, keepdims=True))
        return float(-table[self.validation[:-1], self.validation[1:]].mean())


def read_text(path: str | None) -> str:
    """A file's text, or the reference of the Python language. Raises OSError or ValueError naming the file."""
    if path is None:
        from pydoc_data.topics import topics

        return "\n".join(topics[topic] for topic in sorted(topics))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from error
    if not text.strip():
        raise ValueError(f"{path} is empty: there is no text to learn from")
    return text


def batch(tokens: Array, size: int, length: int, random: np.random.Generator) -> tuple[Array, Array]:
    """`size` pieces from anywhere: inputs (b, t), and targets, which are the same one place on."""
    starts = random.integers(0, len(tokens) - length, (size, 1))
    pieces = tokens[starts + np.arange(length + 1)]
    return pieces[:, :-1], pieces[:, 1:]


def validation_loss(model: GPT2, tokens: Array, length: int, *, pieces: int = 128) -> float:
    """The loss on up to `pieces` pieces, evenly spaced over the validation text: always the same ones."""
    starts = np.linspace(0, len(tokens) - length - 1, pieces).astype(int)[:, None]
    held = tokens[np.unique(starts)[:, None] + np.arange(length + 1)]
    model.eval()
    loss = model.loss(held[:, :-1], held[:, 1:])
    model.train()
    return loss


def train(model: GPT2, data: Characters, options: Options, show: "Progress") -> None:
    """The loop: a batch, its loss, the gradients, a step."""
    random = np.random.default_rng(options.seed)
    parameters = model.parameters()
    optimizer = AdamW(parameters, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(options.steps):
        inputs, targets = batch(data.train, options.batch, options.context, random)
        loss, d_logits = cross_entropy(model(inputs), targets)
        if not math.isfinite(loss):
            raise ValueError(f"the loss became {loss} at step {step}; choose a smaller --learning-rate")
        model.zero_grad()
        model.backward(d_logits)
        clip_gradients(parameters, 1.0)
        optimizer.learning_rate = cosine_schedule(
            step, peak=options.learning_rate, total_steps=options.steps, warmup_steps=min(100, options.steps // 10),
            floor=options.learning_rate / 20,
        )  # fmt: skip
        optimizer.step()
        show.step(step + 1, loss, inputs.size)
        if (step + 1) % show.every == 0 or step + 1 == options.steps:
            show.row(validation_loss(model, data.validation, options.context))


def write(model: GPT2, data: Characters, *, length: int, seed: int) -> str:
    """Text, streamed as it comes. Where the context is full, its later half begins the next one."""
    model.eval()
    context = model.config.max_positions
    text = "".join(character for character in "The " if character in data.characters) or data.characters[0]
    print(text, end="", flush=True)
    ids = [data.characters.index(character) for character in text]
    while length > 0:
        prompt = ids[-(context // 2) :]
        new = min(context - len(prompt), length)
        for token in stream(model, prompt, max_new_tokens=new, do_sample=True, temperature=0.7, seed=seed + length):
            ids.append(int(token[0]))
            print(data.characters[ids[-1]], end="", flush=True)
        length -= new
    print()
    return "".join(data.characters[i] for i in ids)


class Progress:
    """A table that grows by a row at each evaluation; on a terminal, a line below it that moves."""

    def __init__(self, total: int, *, out: TextIO | None = None, rows: int = 10) -> None:
        self.total, self.out, self.every = total, out or sys.stdout, max(total // rows, 1)
        self.start = self.since = time.perf_counter()
        self.losses: list[float] = []
        self.tokens = self.done = 0
        print(f"{'step':>7}  {'train':>7}  {'validation':>10}  {'tokens/s':>9}  {'time':>6}", file=self.out, flush=True)

    def step(self, done: int, loss: float, tokens: int) -> None:
        """Count a step; redraw the moving line."""
        self.done, self.tokens = done, self.tokens + tokens
        self.losses.append(loss)
        if self.out.isatty() and done % 5 == 0:
            passed = time.perf_counter() - self.start
            filled = round(24 * done / self.total)
            left = passed / done * (self.total - done)
            bar = "━" * filled + "─" * (24 - filled)
            print(
                f"\r{bar} {done}/{self.total}  loss {loss:.3f}  {left:4.0f} s left ", end="", file=self.out, flush=True
            )

    def row(self, validation: float) -> None:
        """The losses so far: of training since the row before, and of validation."""
        now = time.perf_counter()
        clear = "\r\x1b[K" if self.out.isatty() else ""
        print(
            f"{clear}{self.done:7d}  {sum(self.losses) / len(self.losses):7.3f}  {validation:10.3f}  "
            f"{self.tokens / (now - self.since):9,.0f}  {now - self.start:5.0f}s",
            file=self.out,
            flush=True,
        )
        self.losses, self.tokens, self.since = [], 0, time.perf_counter()


def run(options: Options) -> None:
    """The whole story, printed: the text, the bigram's loss, the falling loss, a sample."""
    data = Characters(read_text(options.text), options.context)
    config = GPT2Config(
        vocab_size=len(data.characters), max_positions=options.context, dim=options.dim, num_layers=options.layers,
        num_heads=options.heads, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0,
    )  # fmt: skip
    model = GPT2(config, seed=options.seed)
    name = options.text or "the Python reference (pydoc_data.topics)"
    print(f"text    {name}: {len(data.train) + len(data.validation):,} characters, {config.vocab_size} different")
    print(f"model   GPT-2 by hand, {model.num_parameters:,} parameters in float32, NumPy {np.__version__}")
    bigram = data.bigram_loss()
    print(f"bigram  {bigram:.3f} nats per character on validation: what counting pairs achieves\n")
    show = Progress(options.steps)
    train(model, data, options, show)
    print(f"\nit writes:\n{'─' * 64}")
    write(model, data, length=options.sample, seed=options.seed)
    print("─" * 64)
