"""The main job, start to end: train a small GPT on real text, beat the bigram, write, check the NumPy twin, report."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from glassformer.explorer.report import Report
from glassformer.explorer.twin import TwinDifference, compare_with_by_hand
from glassformer.generation import GenerationOptions, stream_text
from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.gpt2 import GPT2
from glassformer.ops.machine import machine
from glassformer.text import SequentialLoader, Tokenizer, load_corpus
from glassformer.tracing import attention_weights
from glassformer.training import Run, load_recipe, train

PROMPT = "The "
SENTENCE = "The value of the expression is the result of the call.\n"
SAMPLE_TOKENS = 400
AGREEMENT = 1e-10  # in float64, relative to the largest value: beyond it the twins do not compute the same thing


def main(run_folder: str | Path = "runs/demo", *, recipe: str = "demo", console: Console | None = None) -> Path:
    """Run the demo and return the path of its report.

    Raises:
        RuntimeError: the model did not beat the bigram baseline, or its NumPy twin computes something else.
    """
    console = console or Console()
    folder = Path(run_folder)
    console.rule("[bold]1. Train a small GPT on the Python documentation")
    run = train(load_recipe(recipe), run_folder=folder, overwrite=True, console=console)
    if run.signal is not None:
        raise KeyboardInterrupt(f"stopped by {run.signal}")
    assert run.validation_loss is not None

    console.rule("[bold]2. Against the bigram baseline")
    corpus = load_corpus(run.recipe.texts.corpus)
    bigram = bigram_loss(run.tokenizer, corpus.train, corpus.validation, run.recipe.texts.context)
    console.print(f"bigram, which sees one character back: {bigram:.3f} nats per character")
    console.print(f"GPT, which sees {run.recipe.texts.context}:              {run.validation_loss:.3f}")
    if run.validation_loss > bigram - 0.3:
        raise RuntimeError(f"the model's validation loss {run.validation_loss:.3f} is not clearly below the bigram "
                           f"baseline's {bigram:.3f}")  # fmt: skip

    console.rule("[bold]3. What it writes")
    sample = write_sample(run, console)

    console.rule("[bold]4. The same weights, by hand in NumPy")
    difference = check_twin(run, corpus.validation)
    console.print(describe(difference))
    if difference.largest > AGREEMENT:
        raise RuntimeError(f"PyTorch and NumPy differ by {difference.largest:.1e}; allowed is {AGREEMENT:.0e}")

    console.rule("[bold]5. The report")
    path = make_report(run, bigram, sample, difference).write(folder / "report.html")
    console.print(f"[bold]{path.resolve().as_uri()}[/]  loss curves, and where every head looks", soft_wrap=True)
    console.print(f"go on: [bold]glassformer generate --model {folder} --prompt 'The function '[/]", soft_wrap=True)
    return path


def bigram_loss(tokenizer: Tokenizer, train_text: str, validation_text: str, context: int) -> float:
    """The validation loss of counting pairs, on the same windows as the model's."""
    model = Bigram(BigramConfig(vocab_size=tokenizer.vocab_size))
    model.fit(torch.tensor(tokenizer.encode(train_text)), smoothing=0.1)
    total, counted = 0.0, 0
    with torch.no_grad():
        for batch in SequentialLoader(tokenizer.encode(validation_text), batch_size=64, length=context):
            loss = model(batch.inputs, targets=batch.targets).loss
            assert loss is not None
            total += loss.item() * batch.counted
            counted += batch.counted
    return total / counted


def write_sample(run: Run, console: Console) -> str:
    """Stream a sample to the console; returns it."""
    console.print(Text(PROMPT, style="bold"), end="")
    pieces = []
    options = GenerationOptions(
        max_new_tokens=SAMPLE_TOKENS, do_sample=True, temperature=0.8, top_k=40, seed=0, slide_context=True
    )
    for piece in stream_text(run.model, run.tokenizer, PROMPT, options=options):
        pieces.append(piece)
        console.print(Text(piece), end="", soft_wrap=True)
    console.print()
    return "".join(pieces)


def check_twin(run: Run, text: str) -> TwinDifference:
    """The trained model and its twin on four rows of validation text."""
    if not isinstance(run.model, GPT2):
        raise ValueError(f"the demo's recipe trains a {type(run.model).__name__}; its NumPy twin is that of GPT2")
    batch = next(iter(SequentialLoader(run.tokenizer.encode(text[:4000]), batch_size=4, length=64)))
    return compare_with_by_hand(run.model, batch.inputs, batch.targets)


def describe(difference: TwinDifference) -> str:
    """The check in a sentence or two."""
    return (
        f"The NumPy twin has the same {difference.parameters:,} weights. In float64, relative to the largest value, "
        f"the logits differ by {difference.logits:.1e}, the loss by {difference.loss:.1e}, and the gradients of all "
        f"parameters by at most {difference.gradients:.1e}."
    )


def make_report(run: Run, bigram: float, sample: str, difference: TwinDifference) -> Report:
    """Everything the page shows."""
    validation = [(r["step"], r["validation_loss"]) for r in run.metrics if "validation_loss" in r]
    training = [(r["step"], r["loss"]) for r in run.metrics if "loss" in r]
    last = [r for r in run.metrics if "loss" in r][-1]
    tokens = run.tokenizer.encode(SENTENCE)
    seen = attention_weights(run.model, torch.tensor([tokens]))
    data, loss = run.recipe.texts, validation[-1][1]
    record = machine()
    return Report(
        title="A small GPT learns to write",
        subtitle=f"{run.model.num_parameters:,} parameters, trained on {data.corpus} for {run.step:,} steps of "
        f"{data.batch_size} × {data.context} characters.",
        train=training,
        validation=validation,
        bigram=bigram,
        prompt=PROMPT,
        sample=sample,
        tokens=[run.tokenizer.decode([token]) for token in tokens],
        attention=torch.stack([weights[0] for weights in seen.values()]),
        twin=describe(difference),
        numbers=[
            (f"{loss:.3f}", "validation loss, nats per character"),
            (f"{bigram:.3f}", "the bigram baseline's"),
            (f"{last['seconds']:.0f} s", "training time, evaluations included"),
            (f"{last['tokens'] / last['seconds']:,.0f}", "characters per second"),
            (f"{difference.largest:.0e}", "largest difference to NumPy"),
        ],
        facts=[
            ("Model", f"{type(run.model).__name__}, {run.model.config}"),
            ("Optimizer, schedule", f"{run.recipe.optimizer}, {run.recipe.schedule}"),
            ("Machine", f"{record.cpu}, {record.threads} threads, "
             f"{record.peak_gflops():,.0f} GFLOP/s float32 measured"),
            ("Versions", f"Glassformer {version('glassformer')}, torch {torch.__version__}, "
             f"Python {platform.python_version()}, {sys.platform}"),
            ("Run folder", f"{run.folder} (recipe.toml, metrics.jsonl, checkpoints/, best/, model/)"),
        ],
    )  # fmt: skip
