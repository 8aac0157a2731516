"""Races of the models that see: pictures and clips forward, and a training step."""

import tempfile
from typing import Any

from benchmarks.board import Board, Results, console, tell
from benchmarks.harness import Competitor, race

MODULE = "vision_competitors"


def vit(rounds: int) -> Results:
    """ViT-Base with patches of 16, a batch of 8 pictures of 224 × 224, forward."""
    goals = {"float32": 2.2, "bf16": 1.2}
    name = "vit-base-patch16-224"
    return _seen("ViT-B/16, forward, 8 × 224²", name, "image_classification", (8, 3, 224, 224), rounds, goals=goals)


def swin(rounds: int) -> Results:
    """Swin-T, 8 pictures, forward: of the size it was made for, and of one that its windows do not divide."""
    name, goals = "swin-tiny-patch4-window7-224", {"float32": 2.0, "bf16": 1.4}
    return {
        f"{y}x{x}": _seen(
            f"Swin-T, forward, 8 × {y} × {x}", name, "image_classification", (8, 3, y, x), rounds, goals=goals
        )
        for y, x in ((224, 224), (256, 320))
    }


def detr(rounds: int) -> Results:
    """DETR with a ResNet-50, one picture of 480 × 640, forward."""
    return _seen("DETR-R50, forward, 1 × 480 × 640", "detr-resnet-50", "object_detection", (1, 3, 480, 640), rounds,
                 goals={"float32": 1.5, "bf16": 1.2})  # fmt: skip


def videomae(rounds: int) -> Results:
    """VideoMAE-Base, one clip of 16 frames of 224 × 224, forward."""
    return _seen("VideoMAE-B, forward, 16 frames of 224²", "videomae-base", "video_classification",
                 (1, 16, 3, 224, 224), rounds, goals={"float32": 2.0, "bf16": 1.2})  # fmt: skip


def training_vit(rounds: int) -> Results:
    """A training step of ViT-Small with patches of 16, 16 pictures of 224 × 224."""
    size = dict(name="vit-small-patch16-224", head="image_classification")
    return _race("Training step, ViT-S/16, batch 16 × 224²", "train", size, (16, 3, 224, 224), rounds,
                 goals={"float32": 1.7, "bf16": 1.2})  # fmt: skip


def _seen(title: str, name: str, head: str, shape: tuple[int, ...], rounds: int, *, goals: dict[str, float]) -> Results:
    """Forward passes; the two must find the same."""
    return _race(title, "see", dict(name=name, head=head), shape, rounds, goals=goals)


def _race(
    title: str,
    task: str,
    size: dict[str, str],
    shape: tuple[int, ...],
    rounds: int,
    *,
    goals: dict[str, float],
) -> Results:
    import torch

    from glassformer import create_model

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        create_model(size["name"], head=size["head"]).save_pretrained(folder)
        arguments: dict[str, Any] = dict(folder=folder, shape=list(shape))
        field = [
            Competitor(f"{name} {dtype}", MODULE, f"{task}_{name}", arguments | {"bf16": dtype == "bf16"})
            for name in ("glassformer", "transformers")
            for dtype in ("float32", "bf16")
        ]
        timings = race(field, rounds=rounds, tell=tell)
    for dtype, tolerance in (("float32", 1e-3), ("bf16", 0.1)):
        ours, theirs = (timings[f"{name} {dtype}"].results[0] for name in ("glassformer", "transformers"))
        assert abs(ours - theirs) < tolerance * abs(theirs), f"{dtype}: outputs differ: {ours}, {theirs}"
    board = Board(title, timings, shape[0], "clips/s" if len(shape) == 5 else "pictures/s")
    for dtype, goal in goals.items():
        board.against(f"glassformer {dtype}", f"transformers {dtype}", goal)
    out = board.show()
    peaks = {name: timing.peak_bytes for name, timing in timings.items()}
    for name, peak in peaks.items():
        console.print(f"  {name}: peak memory of the process {peak / 1e9:.2f} GB")
    console.print()
    return out | {"peak_bytes": peaks}
