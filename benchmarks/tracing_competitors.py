"""A model that nobody looked into, and the same one after everything of `glassformer.tracing` was used on it."""

from typing import Any

from benchmarks.competitors import Sample, _threads, _tokens, _training


def step(shape: dict[str, Any], batch_size: int, steps: int, looked: str, compiled: bool = False) -> Sample:
    """Training steps of a GPT-2. `looked`: "never", the tracing room is not even imported; "before", it was looked into
    in every way, and closed again. Samples give the loss, and how many graphs it was compiled to."""
    _threads()
    import torch
    from torch._dynamo.utils import counters

    from glassformer import GPT2, GPT2Config
    from glassformer.ops.machine import keep_freed_memory

    keep_freed_memory()
    dropout: dict[str, Any] = dict(embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    model = GPT2(GPT2Config(**shape, **dropout))
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    if looked == "before":
        look(model, x)
    run: Any = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
    sample = _training(model, lambda: run(x, labels=x).loss, False, steps)

    def with_graphs() -> list[float]:
        return [sample(), counters["stats"]["unique_graphs"]]

    return with_graphs if compiled else sample


def look(model: Any, x: Any) -> None:
    """Everything that can be attached to a model, attached and taken off."""
    from glassformer.tracing import attention_weights, compare, logit_lens, patch, record, xray

    xray(model, x, labels=x, backward=True, attention=True)
    record(model, ["blocks.*", "blocks.*.attention.weights"], x)
    with patch(model, {"blocks.0.attention.weights": lambda weights: weights, "blocks.1.input": lambda h: h}):
        model(x)
    attention_weights(model, x)
    logit_lens(model, x)
    compare(model, model, (x,))


def looking(shape: dict[str, Any], batch_size: int, how: str) -> Sample:
    """A forward pass without gradients: as it is, recorded, or under the x-ray. Samples give the loss, or how many
    activations were recorded."""
    _threads()
    import torch

    from glassformer import GPT2, GPT2Config
    from glassformer.tracing import record, xray

    model = GPT2(GPT2Config(**shape)).eval()
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])

    def sample() -> float:
        with torch.no_grad():
            if how == "recorded":
                return len(record(model, "blocks.*", x, labels=x))
            out = xray(model, x, labels=x).output if how == "x-rayed" else model(x, labels=x)
            return float(out.loss)

    return sample
