"""Mistakes with T5's biases: which bucket a distance falls into, in our models and in Hugging Face's."""

from typing import Any

from planted_differences import Patch, mistake

from glassformer.parts import BucketedBias, position

OURS, THEIRS = "encoder.blocks.0.attention", "encoder.block.0.layer.0.SelfAttention"


def buckets(patch: Patch, model: Any, by: Any) -> None:
    """`by(distance, number of buckets, furthest distance, both ways)` gives what is asked for instead."""
    right = position.distance_bucket

    def wrong(distance: Any, count: int, reach: int, *, both_ways: bool) -> Any:
        *instead, both = by(distance, count, reach, both_ways)
        return right(*instead, both_ways=both)

    patch.setattr(position, "distance_bucket", wrong)
    for part in model.modules():
        if isinstance(part, BucketedBias):
            part._kept.clear()


@mistake("distance from key to query", "t5", "ours", OURS, "relative bias")
def _(patch: Patch, model: Any) -> None:
    buckets(patch, model, lambda distance, count, reach, both: (-distance, count, reach, both))


@mistake("half of the buckets", "umt5", "ours", OURS, "relative bias")
def _(patch: Patch, model: Any) -> None:
    buckets(patch, model, lambda distance, count, reach, both: (distance, count // 2, reach, both))


@mistake("buckets that reach twice as far", "t5-v1.1", "ours", OURS, "relative bias")
def _(patch: Patch, model: Any) -> None:
    buckets(patch, model, lambda distance, count, reach, both: (distance, count, 2 * reach, both))


@mistake("an encoder's buckets for keys behind alone", "t5", "theirs", THEIRS, "relative bias")
def _(patch: Patch, model: Any) -> None:
    attention = model.encoder.block[0].layer[0].SelfAttention
    right = attention._relative_position_bucket
    patch.setattr(attention, "_relative_position_bucket", lambda *given, **named: right(
        *given, **named | {"bidirectional": False}))  # fmt: skip
