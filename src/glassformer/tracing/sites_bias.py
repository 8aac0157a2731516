"""Learned biases by distance (T5's buckets), read from their table in the usual way and otherwise."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from glassformer.parts.position import distance_bucket
from glassformer.tracing.place import Place
from glassformer.tracing.points import ForwardPass

REACHES = (128, 64, 256)
"""The furthest distance with a bucket of its own, as people have chosen it."""


def learned_biases(place: Place, q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """How it is read -> the bias (1, h, t, s): first the usual way; nothing where there is no such table."""
    table = table_of(place.a, place.module_a, q.shape[1])
    if table is None or "cross" in place.module_a or "EncDec" in place.module_a:
        return {}
    t, s = q.shape[2], k.shape[2]
    distance = torch.arange(s)[None, :] - torch.arange(s - t, s)[:, None]
    return {name: table[bucket].permute(2, 0, 1)[None] for name, bucket in buckets(place, distance, len(table))}


def buckets(place: Place, distance: Tensor, count: int) -> Iterator[tuple[str, Tensor]]:
    """The buckets of these distances, (t, s), under each way to choose them."""
    both_ways = "decoder" not in place.module_a
    said = [reach_of(run) for run in (place.a, place.b)]
    named = [reach for reach in said if reach]
    reaches = list(dict.fromkeys([*named, *(2 * reach for reach in named), *(reach // 2 for reach in named), *REACHES]))

    def bucket(distance: Tensor, count: int, reach: int, both: bool) -> Tensor | None:
        exact = count // (4 if both else 2)
        return distance_bucket(distance, count, reach, both_ways=both) if 1 <= exact < reach else None

    usual = reaches[0]
    ways = {
        f"by {count} buckets for distances to {usual}": (distance, count, usual, both_ways),
        "by the distance from key to query": (-distance, count, usual, both_ways),
        f"by buckets for keys {'behind alone' if both_ways else 'on both sides'}": (
            distance, count, usual, not both_ways,
        ),
        **{f"by {n} of its {count} buckets": (distance, n, usual, both_ways) for n in (count // 2, count - 2)},
        **{f"by buckets for distances to {reach}": (distance, count, reach, both_ways) for reach in reaches[1:]},
    }  # fmt: skip
    for name, way in ways.items():
        found = bucket(*way)
        if found is not None:
            yield name, found


def reach_of(run: ForwardPass) -> int | None:
    """The furthest distance that a model's config names."""
    config = getattr(run.model, "config", None)
    names = ("relative_attention_max_distance", "max_distance")
    return next((found for name in names if isinstance(found := getattr(config, name, None), int)), None)


def table_of(run: ForwardPass, path: str, heads: int) -> Tensor | None:
    """The learned numbers (buckets, heads) of the stack that a path leads into; of several, the same layer's."""
    stack = "decoder" if "decoder" in path else "encoder"
    found: list[tuple[str, Tensor]] = []
    for name, module in run.modules.items():
        weight: Any = getattr(module, "weight", None)
        named = "relative_attention_bias" in name or re.search(r"biases\.\d+$", name)
        if named and stack in name and isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == heads:
            found.append((name, weight.detach().double().cpu()))
    layer = re.findall(r"\d+", path)[:1]
    same = [table for name, table in found if re.findall(r"\d+", name)[:1] == layer]
    return (same or [table for _, table in found] or [None])[0]
